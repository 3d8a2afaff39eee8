//! Two network namespaces joined by a veth pair: a place for a server and a place for clients. Needs root. The kernel
//! removes all of it when the two processes that hold the namespaces end.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    os::fd::AsFd,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

pub struct Pair {
    server: Child,
    client: Child,
}

fn holder() -> Child {
    let mut child = Command::new("unshare")
        .args(["--net", "sleep", "300"])
        .stdin(Stdio::null())
        .spawn()
        .expect("unshare: these tests need root");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    // The namespace is there when it is no longer ours.
    for _ in 0..200 {
        let there = std::fs::read_link(format!("/proc/{}/ns/net", child.id()));
        if there.is_ok_and(|there| there != own) {
            return child;
        }
        assert!(child.try_wait().unwrap().is_none(), "unshare failed: these tests need root");
        thread::sleep(Duration::from_millis(10));
    }
    panic!("no namespace");
}

impl Pair {
    /// `s0` with 10.88.0.1/24 on the server's side, `c0` with this MAC on the client's.
    pub fn new(mac: &str) -> Self {
        let pair = Self { server: holder(), client: holder() };
        let client = pair.client.id().to_string();
        for line in [
            format!("ip link add s0 type veth peer name c0 address {mac} netns {client}"),
            "ip addr add 10.88.0.1/24 dev s0".to_owned(),
            "ip link set s0 up".to_owned(),
            "ip link set lo up".to_owned(),
        ] {
            good(run(&pair.server, &line));
        }
        good(run(&pair.client, "ip link set c0 up"));
        pair
    }

    /// Runs a command line (words without spaces) among the clients, for at most 30 seconds.
    pub fn client(&self, line: &str) -> Output {
        run(&self.client, &format!("timeout 30 {line}"))
    }

    /// A program on the server's side.
    pub fn in_server(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.server.id().to_string(), "--net"]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs `work` in a thread of the clients' namespace; the threads that it starts are there, too.
    pub fn among_clients<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.client.id())).unwrap();
        let inside = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap()
    }

    /// Runs `work` in a thread of the server's namespace, for ever.
    pub fn serve(&self, work: impl FnOnce() + Send + 'static) {
        let namespace = File::open(format!("/proc/{}/ns/net", self.server.id())).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work();
        });
    }
}

fn run(holder: &Child, line: &str) -> Output {
    let target = holder.id().to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &target, "--net"]).args(line.split(' ')).stdin(Stdio::null());
    command.output().unwrap_or_else(|e| panic!("nsenter {line}: {e}"))
}

pub fn good(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

impl Drop for Pair {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.client] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
