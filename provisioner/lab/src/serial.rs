//! What a machine wrote to its serial port, readable: firmware and iPXE draw with control sequences.

use anyhow::{Context, Result};
use std::{fs, path::Path};

/// The log at `file` as text; empty while there is none.
pub fn read(file: &Path) -> Result<String> {
    match fs::read(file) {
        Ok(bytes) => Ok(plain(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("{}: cannot be read", file.display())),
    }
}

/// `text` without escape sequences and control characters other than new lines.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => match characters.next() {
                // CSI: parameters, then one letter.
                Some('[') => while characters.next().is_some_and(|c| !c.is_ascii_alphabetic()) {},
                Some('(' | ')') => {
                    characters.next();
                }
                _ => {}
            },
            '\n' | '\t' => plain.push(character),
            other if other.is_control() => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn control_sequences_go_and_text_stays() {
        assert_eq!(
            plain("\x1b[2J\x1b[01;33mSea\x1b[0mBIOS\r\nnext\x1bc\x1b(Bline\x00\x07"),
            "SeaBIOS\nnextline"
        );
        assert_eq!(plain("cut \x1b["), "cut ");
    }
}
