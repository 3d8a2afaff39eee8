//! PURE. Whether a systemd unit's text is one, as Ignition's reader (go-systemd) decides.

/// Bytes of a line with its end, as systemd's own limit was once. The bracket of a section is not counted.
const LINE_MAX: usize = 2048;
const TOO_LONG: &str = "line too long (max 2048 bytes)";

/// Extensions that Ignition takes for a unit.
const EXTENSIONS: [&str; 12] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "snapshot",
    "slice",
    "scope",
];

pub(super) fn is_unit_name(name: &str) -> bool {
    extension(name).is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// What follows the last dot of the last part of a path.
pub(super) fn extension(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next().unwrap_or_default();
    last.rsplit_once('.').map(|(_, extension)| extension)
}

/// What is left to read; each step takes from its front.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<char> {
        let next = self.0.chars().next()?;
        self.0 = self.0.get(next.len_utf8()..).unwrap_or_default();
        Some(next)
    }

    /// Up to the end of the line, without it. `read` is how many bytes of the line were read before.
    fn line(&mut self, read: usize) -> Result<&'a str, String> {
        let (line, rest) = self.0.split_once('\n').unwrap_or((self.0, ""));
        self.0 = rest;
        if read + line.len() >= LINE_MAX { Err(TOO_LONG.to_owned()) } else { Ok(line) }
    }

    /// A comment goes on after a backslash, too.
    fn comment(&mut self) -> Result<(), String> {
        let mut read = 1;
        loop {
            let line = self.line(read)?;
            if !line.strip_suffix(' ').unwrap_or(line).ends_with('\\') {
                return Ok(());
            }
            read = 0;
        }
    }

    /// After `[`: the section's name and the rest of its line.
    fn section(&mut self) -> Result<(), String> {
        let Some((name, rest)) = self.0.split_once(']') else {
            return Err("unable to find end of section".to_owned());
        };
        self.0 = rest;
        match self.line(name.len() + 1)?.trim() {
            "" => Ok(()),
            garbage => Err(format!("found garbage after section name : {garbage:?}")),
        }
    }

    /// A name up to `=`, of which `first` is read, and a value that may go on after a backslash.
    fn option(&mut self, first: char) -> Result<(), String> {
        let mut read = first.len_utf8();
        let mut letter = first;
        while letter != '=' {
            letter = self.next().ok_or("EOF")?;
            if matches!(letter, '\n' | '\r') {
                return Err("unexpected newline encountered while parsing option name".to_owned());
            }
            read += letter.len_utf8();
            if read >= LINE_MAX {
                return Err(TOO_LONG.to_owned());
            }
        }
        while self.line(read)?.ends_with('\\') {
            read = 0;
        }
        Ok(())
    }
}

/// Ignition's words of what is wrong.
pub(super) fn check(text: &str) -> Result<(), String> {
    read(text).map_err(|error| format!("invalid unit content: {error}"))
}

fn read(text: &str) -> Result<(), String> {
    let mut reader = Reader(text);
    // What stands before the first section is not read, but for its comments.
    let mut in_section = false;
    while let Some(letter) = reader.next() {
        match letter {
            '[' => {
                reader.section()?;
                in_section = true;
            }
            '#' | ';' => reader.comment()?,
            _ if in_section && !letter.is_whitespace() => reader.option(letter)?,
            _ => {}
        }
    }
    Ok(())
}
