//! `mpsc`: messages between tasks of an asynchronous service (tokio's multi-thread runtime). Four tasks each allocate
//! 16 KiB messages and send them over one bounded channel; a fifth checks and drops them. The threads asked for are the
//! runtime's: a message is freed by whichever thread runs the fifth task just then. A message is touched on each page,
//! as if the kernel had filled it from a socket. The total work is constant.

use tokio::runtime::Builder;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::block::Block;
use crate::workload::{scaled, share};

const MESSAGES: usize = 4_000_000;
const MESSAGE_BYTES: usize = 16 << 10;
const SENDING_TASKS: usize = 4;
const CHANNEL_MESSAGES: usize = 64;

struct Message {
    task: usize,
    number: usize,
    body: Block,
}

/// Plays the workload on `threads` worker threads.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let messages = scaled(MESSAGES, scale);
    let messages_of = |task: usize| share(messages, SENDING_TASKS, task as u64);
    let runtime = Builder::new_multi_thread().worker_threads(threads).build().expect("threads can be started");
    let (sender, receiver) = channel(CHANNEL_MESSAGES);
    for task in 0..SENDING_TASKS {
        runtime.spawn(send(sender.clone(), task, messages_of(task)));
    }
    drop(sender);
    let receiving = runtime.spawn(receive(receiver));
    let counts = runtime.block_on(receiving).expect("the checks held");
    assert_eq!(counts, std::array::from_fn(messages_of), "messages were lost");
    (counts.iter().sum::<usize>() * MESSAGE_BYTES) as u64
}

async fn send(sender: Sender<Message>, task: usize, messages: usize) {
    for number in 0..messages {
        let mut body = Block::new(MESSAGE_BYTES);
        body.touch_pages();
        let message = Message { task, number, body };
        assert!(sender.send(message).await.is_ok(), "the fifth task receives until the channel closes");
    }
}

/// Gives the number of messages from each task; those of one task come in order.
async fn receive(mut receiver: Receiver<Message>) -> [usize; SENDING_TASKS] {
    let mut counts = [0; SENDING_TASKS];
    while let Some(Message { task, number, body }) = receiver.recv().await {
        body.check_pages();
        assert_eq!(number, counts[task], "a message of task {task} is out of order");
        counts[task] += 1;
    }
    counts
}
