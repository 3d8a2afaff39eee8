//! PURE. Whether a systemd unit's text is one, as Ignition's reader (go-systemd) decides.

/// Bytes of a line, its end included; systemd's own limit was this once, and Ignition's still is.
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

    /// Up to the end of the line, without it.
    fn line(&mut self) -> Result<&'a str, String> {
        let (line, rest) = self.0.split_once('\n').unwrap_or((self.0, ""));
        self.0 = rest;
        if line.len() > LINE_MAX { Err(TOO_LONG.to_owned()) } else { Ok(line) }
    }

    /// After `[`: the section's name and the rest of its line.
    fn section(&mut self) -> Result<(), String> {
        let Some((name, rest)) = self.0.split_once(']') else {
            return Err("unable to find end of section".to_owned());
        };
        if name.len() > LINE_MAX {
            return Err(TOO_LONG.to_owned());
        }
        self.0 = rest;
        match self.line()?.trim() {
            "" => Ok(()),
            garbage => Err(format!("found garbage after section name : {garbage:?}")),
        }
    }

    /// A name up to `=`, of which `first` is read, and a value that may go on after a backslash.
    fn option(&mut self, first: char) -> Result<(), String> {
        let mut length = first.len_utf8();
        let mut next = Some(first);
        while next != Some('=') {
            next = self.next();
            match next {
                None => return Err("EOF".to_owned()),
                Some('\n') => {
                    return Err("unexpected newline encountered while parsing option name".to_owned());
                }
                Some(letter) => length += letter.len_utf8(),
            }
            if length > LINE_MAX {
                return Err(TOO_LONG.to_owned());
            }
        }
        while self.line()?.ends_with('\\') {}
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
            '#' | ';' => drop(reader.line()?),
            _ if in_section && !letter.is_whitespace() => reader.option(letter)?,
            _ => {}
        }
    }
    Ok(())
}
