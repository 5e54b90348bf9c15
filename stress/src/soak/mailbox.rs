//! Blocks on their way to another thread, which frees them.

use std::io;
use std::sync::{Mutex, MutexGuard};

use super::block::Block;
use super::list::List;
use super::script::SLOTS;

/// What was sent to one thread.
#[derive(Debug)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    bytes_most: u64,
}

#[derive(Debug)]
struct Mail {
    blocks: List<Block>,
    bytes: u64,
}

impl Mailbox {
    /// An empty mailbox that takes blocks of `bytes_most` together.
    pub fn new(bytes_most: u64) -> io::Result<Self> {
        Ok(Self { mail: Mutex::new(Mail { blocks: List::new(SLOTS)?, bytes: 0 }), bytes_most })
    }

    /// Sends a block. The sender keeps it if there is no room.
    pub fn send(&self, block: Block) -> Result<(), Block> {
        let mut mail = self.lock();
        let bytes = mail.bytes + cost(&block);
        if !mail.blocks.has_room() || bytes > self.bytes_most {
            return Err(block);
        }
        mail.bytes = bytes;
        mail.blocks.push(block);
        Ok(())
    }

    /// Takes out the block that was sent last.
    pub fn receive(&self) -> Option<Block> {
        let mut mail = self.lock();
        let block = mail.blocks.pop()?;
        mail.bytes -= cost(&block);
        Some(block)
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().expect("no thread panics while it holds a mailbox")
    }
}

/// What a block counts for: an alignment may cost as much.
fn cost(block: &Block) -> u64 {
    block.layout.size().max(block.layout.align()) as u64
}

#[cfg(test)]
mod tests {
    use std::alloc::Layout;

    use super::*;

    #[test]
    fn a_mailbox_takes_so_many_bytes_and_no_more() {
        let block = |bytes, tag| {
            let layout = Layout::from_size_align(bytes, 1).unwrap();
            Block::new(std::ptr::without_provenance_mut(4096), layout, tag).unwrap()
        };
        let mailbox = Mailbox::new(100).unwrap();
        mailbox.send(block(60, 1)).unwrap();
        assert_eq!(mailbox.send(block(60, 2)), Err(block(60, 2)));
        mailbox.send(block(40, 3)).unwrap();
        assert_eq!(mailbox.receive(), Some(block(40, 3)));
        assert_eq!(mailbox.receive(), Some(block(60, 1)));
        assert_eq!(mailbox.receive(), None);
        mailbox.send(block(100, 4)).unwrap();
    }
}
