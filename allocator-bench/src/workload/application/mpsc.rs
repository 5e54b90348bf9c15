//! `mpsc`: messages between tasks of an asynchronous service (tokio's multi-thread runtime). Four tasks each build 16 KiB
//! messages and send them over one bounded channel; a fifth checks and drops them. The threads asked for are the
//! runtime's: a message is freed by whichever thread runs the fifth task just then. Filling the messages is a good part
//! of the time. The total work is constant.

use tokio::runtime::Builder;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::workload::{scaled, share};

const MESSAGES: usize = 400_000;
const MESSAGE_BYTES: usize = 16 << 10;
const SENDING_TASKS: usize = 4;
const CHANNEL_MESSAGES: usize = 64;

type Message = Vec<u8>;

/// Plays the workload on `threads` worker threads.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let messages = scaled(MESSAGES, scale);
    let runtime = Builder::new_multi_thread().worker_threads(threads).build().expect("threads can be started");
    let (sender, receiver) = channel(CHANNEL_MESSAGES);
    for task in 0..SENDING_TASKS {
        runtime.spawn(send(sender.clone(), task as u8, share(messages, SENDING_TASKS, task as u64)));
    }
    drop(sender);
    let receiving = runtime.spawn(receive(receiver));
    let counts = runtime.block_on(receiving).expect("the checks held");
    let expected = std::array::from_fn(|task| share(messages, SENDING_TASKS, task as u64));
    assert_eq!(counts, expected, "messages were lost");
    (counts.iter().sum::<usize>() * MESSAGE_BYTES) as u64
}

async fn send(sender: Sender<Message>, task: u8, messages: usize) {
    for number in 0..messages {
        let mut message = vec![task; MESSAGE_BYTES];
        message[..size_of::<u64>()].copy_from_slice(&(number as u64).to_le_bytes());
        sender.send(message).await.expect("the fifth task receives until the channel closes");
    }
}

/// Gives the number of messages from each task; those of one task come in order.
async fn receive(mut receiver: Receiver<Message>) -> [usize; SENDING_TASKS] {
    let mut counts = [0; SENDING_TASKS];
    while let Some(message) = receiver.recv().await {
        let count = &mut counts[usize::from(message[MESSAGE_BYTES - 1])];
        assert!(message.starts_with(&(*count as u64).to_le_bytes()), "a message has lost its contents");
        *count += 1;
    }
    counts
}
