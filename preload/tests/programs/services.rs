//! Databases and servers: one process for long, or many that fork.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{Place, Running, same_answers};

/// The user and the group that nobody is.
const NOBODY: u32 = 65534;

#[test]
fn sqlite_inserts_indexes_and_joins() {
    same_answers("sqlite", &["sqlite3"], |place| {
        place.write("work.sql", include_str!("work/work.sql"));
        place.run_with_stats("sqlite3", ["-batch", "-bail", "-init", "/dev/null", "work.db", ".read work.sql"])
    });
}

/// A redis that answers.
fn start_redis(place: &Place) -> Running<'_> {
    let _ = fs::remove_file(place.path("redis.sock"));
    let mut command = place.command("redis-server");
    command.args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--dbfilename", "dump.rdb"]);
    command.args(["--enable-debug-command", "yes", "--appendonly", "no"]).env("ANTIFREEZE_STATS", "exit");
    let mut server = place.start(&mut command);
    // While it loads a file it answers, but nothing else.
    server.until(|| {
        UnixStream::connect(place.path("redis.sock")).is_ok() && ask_redis(place, &["ping"]).trim() == "PONG"
    });
    server
}

fn ask_redis(place: &Place, words: &[&str]) -> String {
    place.run("redis-cli", [&["-s", "redis.sock"], words].concat())
}

#[test]
fn redis_serves_forks_and_loads_again() {
    same_answers("redis", &["redis-server", "redis-cli", "redis-benchmark"], |place| {
        let mut server = start_redis(place);
        let fill = include_str!("work/fill.lua");
        let mut answer = ask_redis(place, &["eval", fill, "0"]);
        let digest = ask_redis(place, &["debug", "digest"]);
        answer += &digest;
        assert_eq!(ask_redis(place, &["bgsave"]).trim(), "Background saving started");
        // Others write while the child saves.
        let load = "-q -n 4000 -c 20 -P 4 -d 200 -r 1000 --threads 2 -t set,get,lpush,lpop,sadd,hset,zadd,lrange_100";
        place.run("redis-benchmark", ["-s", "redis.sock"].into_iter().chain(load.split(' ')));
        server.until(|| ask_redis(place, &["info", "persistence"]).contains("rdb_bgsave_in_progress:0"));
        let saved = ask_redis(place, &["info", "persistence"]);
        answer += saved.lines().find(|line| line.starts_with("rdb_last_bgsave_status")).unwrap();
        server.stop(libc::SIGINT);

        let server = start_redis(place);
        assert_eq!(ask_redis(place, &["debug", "digest"]), digest, "what was saved is not what was there");
        server.stop(libc::SIGTERM);
        answer
    });
}

/// Postgres refuses to run as root.
fn as_a_user<'a>(place: &Place, command: &'a mut Command) -> &'a mut Command {
    // SAFETY: only tells who we are.
    if unsafe { libc::geteuid() } == 0 {
        chown(place.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[test]
fn postgres_serves_many_clients() {
    same_answers("postgres", &["initdb", "postgres", "psql", "pgbench"], |place| {
        let run = |program: &str, arguments: &[&str]| {
            let mut command = place.command(program);
            command.args(arguments).env("PGHOST", place.path("")).env("PGUSER", "tester").env("PGDATABASE", "postgres");
            place.finish(as_a_user(place, &mut command)).stdout
        };
        run("initdb", &["-D", "data", "-U", "tester", "-A", "trust", "--no-locale", "-E", "UTF8", "--no-sync"]);
        let mut command = place.command("postgres");
        command.args(["-D", "data", "-k"]).arg(place.path("")).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        command.args(["-c", "shared_buffers=32MB"]).env("ANTIFREEZE_STATS", "exit");
        let mut server = place.start(as_a_user(place, &mut command));
        let ready = || fs::read_to_string(place.path("data/postmaster.pid")).is_ok_and(|text| text.contains("ready"));
        server.until(ready);
        run("pgbench", &["-i", "-q", "-s", "2"]);
        run("pgbench", &["-c", "6", "-j", "2", "-t", "100", "-n"]);
        let sum = "select sum(abalance) = (select sum(delta) from pgbench_history), count(*) from pgbench_accounts";
        let mut answer = run("psql", &["-Atc", sum]);
        place.write("work.psql", include_str!("work/work.psql"));
        answer += &run("psql", &["-At", "-v", "ON_ERROR_STOP=1", "-f", "work.psql"]);
        server.stop(libc::SIGINT);
        answer
    });
}

/// Fetches pages by one connection; gives the sum of what came.
fn fetch(socket: &Path, count: usize) -> u64 {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut sum = 0;
    for number in 0..count {
        let zipped = if number % 3 == 0 { "Accept-Encoding: gzip\r\n" } else { "" };
        let page = number % 50;
        write!(stream, "GET /page{page}.html HTTP/1.1\r\nHost: localhost\r\n{zipped}Connection: keep-alive\r\n\r\n")
            .unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        let (mut length, mut chunked) = (0, false);
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            chunked |= line.eq_ignore_ascii_case("Transfer-Encoding: chunked\r\n");
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = Vec::new();
        loop {
            if chunked {
                line.clear();
                reader.read_line(&mut line).unwrap();
                length = usize::from_str_radix(line.trim(), 16).unwrap();
            }
            let begin = body.len();
            body.resize(begin + length, 0);
            reader.read_exact(&mut body[begin..]).unwrap();
            if !chunked {
                break;
            }
            reader.read_exact(&mut [0; 2]).unwrap();
            if length == 0 {
                break;
            }
        }
        sum += body.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    sum
}

#[test]
fn nginx_serves_pages() {
    same_answers("nginx", &["nginx"], |place| {
        for page in 0..50 {
            place.write(&format!("pages/page{page}.html"), format!("page {page} of many\n").repeat(20 + page * 40));
        }
        for directory in ["body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            fs::create_dir_all(place.path(directory)).unwrap();
        }
        place.write("nginx.conf", include_str!("work/nginx.conf"));
        let mut command = place.command("nginx");
        command.arg("-p").arg(place.path("")).args(["-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]);
        let mut server = place.start(command.env("ANTIFREEZE_STATS", "exit"));
        let socket = place.path("nginx.sock");
        server.until(|| UnixStream::connect(&socket).is_ok());
        let sums = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| fetch(&socket, 800))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        server.stop(libc::SIGQUIT);
        let log = fs::read_to_string(place.path("access.log")).unwrap();
        format!("{sums:?} {}", log.lines().count())
    });
}
