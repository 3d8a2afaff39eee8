//! QEMU's machine protocol, as much of it as a lab needs: one command, its answer.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends `command` to the monitor at `socket`; what it returned.
pub fn execute(socket: &Path, command: &str, arguments: &Value) -> Result<Value> {
    let talk = || -> Result<Value> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        let mut greeting = String::new();
        reader.read_line(&mut greeting)?;
        ask(&mut reader, &mut writer, &json!({ "execute": "qmp_capabilities" }))?;
        let request = match arguments {
            Value::Null => json!({ "execute": command }),
            arguments => json!({ "execute": command, "arguments": arguments }),
        };
        ask(&mut reader, &mut writer, &request)
    };
    talk().with_context(|| format!("{}: {command}", socket.display()))
}

fn ask(reader: &mut impl BufRead, writer: &mut impl Write, request: &Value) -> Result<Value> {
    writeln!(writer, "{request}")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            bail!("QEMU has closed its monitor");
        }
        let mut answer: Value = serde_json::from_str(&line).context("not JSON")?;
        if let Some(error) = answer.get("error") {
            bail!("refused: {error}");
        }
        // Anything else is an event that happened meanwhile.
        if let Some(returned) = answer.get_mut("return") {
            return Ok(returned.take());
        }
    }
}
