//! The `format` file of a tracepoint: its number, and where its fields are in a record. Fields are found by name, so
//! that kernels whose records look different are understood as well.

/// A tracepoint.
#[derive(Clone, Debug)]
pub struct Format {
    /// The tracepoint's number.
    pub id: u64,
    fields: Vec<(String, Field)>,
}

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    offset: usize,
    bytes: usize,
}

impl Format {
    pub(crate) fn parse(text: &str) -> Option<Format> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:"))?.trim().parse().ok()?;
        Some(Format { id, fields: text.lines().filter_map(field).collect() })
    }

    /// The field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Field> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, field)| *field)
    }
}

/// One line, such as `field:unsigned long args[6]; offset:16; size:48; signed:0;`.
fn field(line: &str) -> Option<(String, Field)> {
    let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
    let declaration = parts.next()?;
    let name = declaration.rsplit(' ').next()?.trim_start_matches('*').split('[').next()?.to_owned();
    let (mut offset, mut bytes) = (None, None);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", value)) => offset = value.parse().ok(),
            Some(("size", value)) => bytes = value.parse().ok(),
            _ => {}
        }
    }
    Some((name, Field { offset: offset?, bytes: bytes? }))
}

impl Field {
    /// The number in this field of a record.
    #[must_use]
    pub fn number(self, record: &[u8]) -> Option<u64> {
        self.word(record, self.offset, self.bytes)
    }

    /// The number at this place of a field that is an array of 64-bit numbers.
    pub(crate) fn element(self, record: &[u8], at: usize) -> Option<u64> {
        if (at + 1) * 8 > self.bytes {
            return None;
        }
        self.word(record, self.offset + at * 8, 8)
    }

    /// The text in this field of a record, up to the zero that ends it.
    #[must_use]
    pub fn text(self, record: &[u8]) -> Option<String> {
        let field = record.get(self.offset..self.offset + self.bytes)?;
        Some(String::from_utf8_lossy(field.split(|byte| *byte == 0).next()?).into_owned())
    }

    fn word(self, record: &[u8], offset: usize, bytes: usize) -> Option<u64> {
        let field = record.get(offset..offset + bytes)?;
        Some(match bytes {
            1 => u64::from(field[0]),
            2 => u64::from(u16::from_ne_bytes(field.try_into().ok()?)),
            4 => u64::from(u32::from_ne_bytes(field.try_into().ok()?)),
            8 => u64::from_ne_bytes(field.try_into().ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "name: mmap_lock_acquire_returned\nID: 512\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:struct mm_struct * mm;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:__data_loc char[] memcg_path;\toffset:16;\tsize:4;\tsigned:0;\n\
        \tfield:bool write;\toffset:20;\tsize:1;\tsigned:0;\n\
        \tfield:bool success;\toffset:21;\tsize:1;\tsigned:0;\n\n\
        print fmt: \"mm=%p memcg_path=%s\", REC->mm, __get_str(memcg_path)\n";

    #[test]
    fn fields_are_found_by_name_in_the_records_of_an_old_kernel() {
        let format = Format::parse(OLD).expect("a format");
        assert_eq!(format.id, 512);
        assert_eq!(format.field("mm"), Some(Field { offset: 8, bytes: 8 }));
        assert_eq!(format.field("success"), Some(Field { offset: 21, bytes: 1 }));
        assert_eq!(format.field("memcg_id"), None);
        let mut record = [0; 24];
        record[8..16].copy_from_slice(&0xffff_8881_0000_0040_u64.to_ne_bytes());
        record[20] = 1;
        let number = |name: &str| format.field(name).expect("a field").number(&record);
        assert_eq!([number("mm"), number("write"), number("success")], [Some(0xffff_8881_0000_0040), Some(1), Some(0)]);
    }

    #[test]
    fn arrays_have_elements_and_short_records_have_no_number() {
        let line = "\tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;";
        let (name, args) = field(line).expect("a field");
        let mut record = vec![0; 64];
        record[24] = 7;
        assert_eq!((name.as_str(), args.element(&record, 1)), ("args", Some(7)));
        assert_eq!(args.element(&record, 6), None);
        assert_eq!(args.element(&record[..20], 1), None);
        assert_eq!(args.number(&record), None);
    }

    #[test]
    fn text_without_a_number_is_no_format() {
        assert!(Format::parse("name: x\nformat:\n").is_none());
    }
}
