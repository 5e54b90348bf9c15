//! Writes text into a caller's buffer, without allocation and without `core::fmt`. Called by whatever prints.
//!
//! Invariant: the buffer holds whole pieces only, from its start and without a gap. From the first piece that does not
//! fit nothing more is written, but all is counted, so that a caller learns how large a buffer it needs.

/// A buffer and how much text was meant for it.
pub(crate) struct Text<'a> {
    buffer: &'a mut [u8],
    /// Bytes of all pieces so far. What is written ends here, unless this lies past the end of the buffer.
    wanted: usize,
}

impl<'a> Text<'a> {
    /// No text yet.
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Text { buffer, wanted: 0 }
    }

    /// Adds `piece`.
    pub(crate) fn str(&mut self, piece: &str) {
        let end = self.wanted.saturating_add(piece.len());
        if let Some(place) = self.buffer.get_mut(self.wanted..end) {
            place.copy_from_slice(piece.as_bytes());
        }
        self.wanted = end;
    }

    /// Adds `number` in decimal.
    pub(crate) fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        for place in digits.iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
            first -= 1;
            if number == 0 {
                break;
            }
        }
        let digits = digits.get(first..).and_then(|digits| core::str::from_utf8(digits).ok());
        self.str(digits.unwrap_or_default());
    }

    /// Adds `bytes` that came from outside: what is no text, or would move the cursor of a terminal, becomes `?`.
    #[cfg(target_os = "linux")]
    pub(crate) fn foreign(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let character = if character.is_control() { '?' } else { character };
                self.str(character.encode_utf8(&mut [0; 4]));
            }
            if !chunk.invalid().is_empty() {
                self.str("?");
            }
        }
    }

    /// Bytes that all of the text takes, also when it did not fit.
    pub(crate) fn len_wanted(&self) -> usize {
        self.wanted
    }

    /// The text.
    /// # Errors
    /// Bytes of buffer that it needs, when it did not fit.
    pub(crate) fn finish(self) -> Result<&'a str, usize> {
        let needed = self.len_wanted();
        let written: &'a [u8] = self.buffer;
        // Pieces are text, so what they add up to is as well.
        written.get(..needed).and_then(|written| core::str::from_utf8(written).ok()).ok_or(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 1, 9, 10, 99, 100, 1_000_000_007, u64::MAX - 1, u64::MAX] {
            let mut buffer = [0; 20];
            let mut text = Text::new(&mut buffer);
            text.number(number);
            assert_eq!(text.finish(), Ok(number.to_string().as_str()));
        }
    }

    #[test]
    fn nothing_is_no_text() {
        assert_eq!(Text::new(&mut []).finish(), Ok(""));
        let mut text = Text::new(&mut []);
        text.str("");
        assert_eq!(text.finish(), Ok(""));
    }

    #[test]
    fn pieces_that_come_after_one_that_did_not_fit_are_left_out() {
        let mut buffer = [b'-'; 6];
        let mut text = Text::new(&mut buffer);
        for piece in ["abc", "defg", "h"] {
            text.str(piece);
        }
        assert_eq!(text.len_wanted(), 8);
        assert_eq!(text.finish(), Err(8));
        assert_eq!(&buffer, b"abc---");
    }

    proptest! {
        #[test]
        fn text_is_all_there_or_its_length_is_told(pieces: Vec<String>, room in 0_usize..64) {
            let whole = pieces.concat();
            let mut memory = std::vec![0xff; room + 8];
            let mut text = Text::new(&mut memory[..room]);
            for piece in &pieces {
                text.str(piece);
            }
            prop_assert_eq!(text.len_wanted(), whole.len());
            if whole.len() <= room {
                prop_assert_eq!(text.finish(), Ok(whole.as_str()));
            } else {
                prop_assert_eq!(text.finish(), Err(whole.len()));
            }
            prop_assert!(memory[room..].iter().all(|byte| *byte == 0xff), "written past the end");
        }
    }
}
