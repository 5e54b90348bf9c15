//! `freeze-target` as a child, for tests: freezes when it is told to, and is asked for answers meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// After so long a test is taken to hang.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How many ask at once.
const CLIENTS: usize = 2;

/// The child; it ends with this.
pub struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Target {
    /// Starts it with these arguments; it answers when this returns.
    pub fn start(arguments: &[&str]) -> Target {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-target"));
        command.args(arguments);
        let mut target = Target::spawn(command);
        target.address = target.line();
        target
    }

    /// Starts a shell, which becomes the target when `become_target` is called.
    pub fn shell(arguments: &[&str]) -> Target {
        let mut command = Command::new("sh");
        command.args(["-c", "read go && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_freeze-target")]).args(arguments);
        Target::spawn(command)
    }

    fn spawn(mut command: Command) -> Target {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the target starts");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Target { child, input, output, address: String::new() }
    }

    /// Has the shell execute the target; it answers when this returns.
    pub fn become_target(&mut self) {
        writeln!(self.input, "go").unwrap();
        self.address = self.line();
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the target says something");
        line.trim_end().to_owned()
    }

    /// Has it freeze and asks it for answers until that is over, while `during` is called again and again.
    pub fn freeze(&mut self, mut during: impl FnMut()) {
        writeln!(self.input, "freeze").unwrap();
        let (address, over) = (self.address.clone(), AtomicBool::new(false));
        let end = Instant::now() + DEADLINE;
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    // Relaxed: nothing else is handed over.
                    while !over.load(Ordering::Relaxed) {
                        assert!(ask(&address).contains("200 OK"));
                        thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            let thawed = scope.spawn(|| self.line());
            while !thawed.is_finished() && Instant::now() < end {
                during();
                thread::sleep(Duration::from_millis(5));
            }
            // Relaxed: as above.
            over.store(true, Ordering::Relaxed);
            assert!(thawed.is_finished(), "the target hangs");
        });
    }
}

fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the target listens");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the target answers");
    answer
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
