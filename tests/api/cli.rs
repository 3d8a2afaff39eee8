//! The binary as an operator calls it.

use super::{MAC, Server, hardware, played::token_of};
use provisioner_wire::machine::Phase;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provisioner"));
    command
        .env_clear()
        .env("PROVISIONER_SERVER", &server.tls)
        .env("PROVISIONER_CA_FILE", server.file("ca.pem"))
        .env("PROVISIONER_TOKEN_FILE", server.file("admin-token"))
        .args(arguments);
    command
}

/// Runs to the end; the code, what it printed, what it complained of.
async fn run(command: Command) -> (i32, String, String) {
    let mut command = command;
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_applied_shown_and_deleted() {
    let server = Server::start().await;
    server.declare_profile().await;
    let file = server.file("node-1.yaml");
    let yaml = format!("name: node-1\nnics:\n  - mac: {MAC}\nprofile: debian\n");
    std::fs::write(&file, yaml).unwrap();
    let file = file.to_str().unwrap();
    let ok = run(command(&server, &["machine", "apply", "-f", file])).await;
    assert_eq!(ok, (0, "machine node-1 declared\n".into(), String::new()));
    let (code, list, _) = run(command(&server, &["machine", "list"])).await;
    assert_eq!(code, 0);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("NAME    PHASE      PROFILE"), "{list}");
    assert!(lines[1].starts_with("node-1  available  debian"), "{list}");
    let (_, shown, _) = run(command(&server, &["machine", "show", "node-1", "--output", "json"])).await;
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["hardware"]["nics"][0]["mac"], MAC);
    let (_, shown, _) = run(command(&server, &["machine", "show", "node-1"])).await;
    assert!(shown.contains("phase: available"), "{shown}");
    let (code, out, _) = run(command(&server, &["events", "node-1"])).await;
    assert_eq!(code, 0);
    assert!(out.contains("Z node-1: declared"), "{out}");
    assert_eq!(run(command(&server, &["machine", "delete", "node-1"])).await.0, 0);
    assert_eq!(run(command(&server, &["machine", "show", "node-1"])).await.0, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_assigned_machine_waits_for_is_said_wherever_one_looks() {
    let server = Server::start().await;
    server.declare_profile().await;
    let mut waits = super::profile();
    waits["name"] = json!("waits");
    assert_eq!(server.api(Method::PUT, "/api/v1/profiles/waits", Some(waits)).await.0, 200);
    server.declare("node-1", MAC).await;
    let mut waiting = command(&server, &["provision", "node-1", "--profile", "waits", "--wait"]);
    let mut child = waiting.stderr(Stdio::piped()).spawn().unwrap();
    let told = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().and_then(|()| child.wait()).unwrap();
        line
    });
    let sentence = "image debian-12: fetching, 34 %, 12 MB/s, about 3 min";
    let told = told.await.unwrap();
    assert!(told.trim_end().ends_with(&format!(" node-1: assigned: {sentence}")), "{told}");
    for path in ["machines", "workflows", "explain"] {
        assert_eq!(server.get(&format!("/api/v1/{path}/node-1")).await["waits_for"], sentence, "{path}");
    }
    let (_, explained, _) = run(command(&server, &["explain", "node-1"])).await;
    assert!(explained.contains(&format!("\nwaits for {sentence}\n")), "{explained}");
    // Of another phase there is nothing to say.
    assert_eq!(server.post("/api/v1/machines/node-1/cancel").await.0, 200);
    assert_eq!(server.get("/api/v1/machines/node-1").await["waits_for"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_say_what_went_wrong() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    assert_eq!(run(command(&server, &["machine", "frobnicate"])).await.0, 2);
    let mut wrong = command(&server, &["machine", "list"]);
    wrong.env("PROVISIONER_SERVER", "https://127.0.0.1:1");
    let (code, _, said) = run(wrong).await;
    assert!(code == 3 && said.contains("cannot be reached"), "{code} {said}");
    let mut stranger = command(&server, &["machine", "list"]);
    stranger.env_remove("PROVISIONER_CA_FILE");
    let (code, _, said) = run(stranger).await;
    assert!(code == 3 && said.contains("--ca-file"), "{code} {said}");
    let mut nobody = command(&server, &["machine", "list"]);
    nobody.env_remove("PROVISIONER_TOKEN_FILE");
    let (code, _, said) = run(nobody).await;
    assert!(code == 3 && said.contains("--token-file"), "{code} {said}");
    let (code, _, said) = run(command(&server, &["provision", "node-1", "--profile", "broken"])).await;
    assert!(code == 4 && said.contains("user-data:3:7: node.gateway has no value"), "{code} {said}");
    assert_eq!(run(command(&server, &["cancel", "node-1"])).await.0, 4);
    let bad = server.file("bad.json");
    std::fs::write(&bad, hardware("node-2", "zz").to_string()).unwrap();
    let (code, _, said) = run(command(&server, &["machine", "apply", "-f", bad.to_str().unwrap()])).await;
    assert!(code == 4 && said.contains("nics[0].mac: \"zz\" is not a MAC address"), "{code} {said}");
    let (code, help, _) = run(command(&server, &["--help"])).await;
    assert!(code == 0 && help.contains("Exit codes") && help.contains("provision node-1 --wait"), "{help}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provision_waits_for_ready_and_for_failure() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    let waiting = tokio::spawn(run(command(&server, &["provision", "node-1", "--wait"])));
    server.until("node-1", |m| m.phase == Phase::Powering).await;
    let agent = server.boot(MAC).await;
    agent.write().await;
    assert_eq!(agent.config("node-1", 1).await.0, 200);
    assert_eq!(agent.done(1, "place-config").await.0, 200);
    assert_eq!(agent.done(1, "reboot").await.0, 200);
    let url = format!("{}/node/v1/node-1/ready", server.tls);
    let token = token_of(&agent.boot.hash());
    assert_eq!(server.http.post(url).body(token).send().await.unwrap().status(), 200);
    let (code, out, err) = waiting.await.unwrap();
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("node-1: ready: its node has phoned home"), "{out}");

    let waiting = tokio::spawn(run(command(&server, &["release", "node-1", "--wait", "-o", "json"])));
    server.until("node-1", |m| m.phase == Phase::Powering).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim().await.0, 200);
    agent.order().await;
    let failed = json!({ "generation": 2, "step": "wipe", "outcome": { "failed": { "reason": "disk is read-only" } } });
    assert_eq!(agent.say("/agent/v1/result", &failed).await.0, 200);
    let (code, out, err) = waiting.await.unwrap();
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("node-1 failed: wipe failed: disk is read-only"), "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["phase"], "failed");
}
