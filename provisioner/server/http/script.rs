//! The text of iPXE scripts, made of the files in `ipxe/` and checked values. A value that would be more than one
//! word, or that iPXE would expand (`${…}`), is an error and not a new line (CVE-2026-46447 was one).

use super::boot::{Argument, Script};

const AGENT: &str = include_str!("../../../ipxe/agent.ipxe");
const DISK: &str = include_str!("../../../ipxe/disk.ipxe");
const NOTHING: &str = include_str!("../../../ipxe/nothing.ipxe");
/// Kernels take 2,048 bytes on x86; iPXE's own words need some.
const ARGUMENTS_MAX: usize = 1800;

/// One value that may stand in a script: printable ASCII without spaces, quotes, `$`, `\`, `#` or control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word(String);

impl Word {
    fn new(text: &str) -> Result<Self, String> {
        let fine =
            |c: char| c.is_ascii_graphic() && !matches!(c, '$' | '"' | '\'' | '\\' | '`' | '#' | '|' | '&');
        match text.chars().find(|c| !fine(*c)) {
            None if !text.is_empty() => Ok(Self(text.to_owned())),
            None => Err("an empty value cannot stand in a boot script".to_owned()),
            Some(bad) => Err(format!(
                "the value \"{}\" has a {bad:?}, which cannot stand in a boot script",
                clip(text)
            )),
        }
    }
}

fn clip(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_default).collect()
}

/// Makes scripts whose files are below `base` (`http://10.88.0.1:8080`).
#[derive(Debug, Clone)]
pub struct Builder {
    files: Word,
}

impl Builder {
    pub fn new(base: &str) -> Result<Self, String> {
        Ok(Self { files: Word::new(&format!("{}/boot/files", base.trim_end_matches('/')))? })
    }

    /// The whole text; an error names the value that cannot stand in it, unless the value is secret.
    pub fn text(&self, script: &Script) -> Result<String, String> {
        let arguments = match script {
            Script::Disk => return Ok(DISK.to_owned()),
            Script::Nothing => return Ok(NOTHING.to_owned()),
            Script::Agent { arguments } => arguments,
        };
        let words = arguments.iter().map(|argument| match argument {
            Argument::Word(word) => Word::new(word).map(|w| w.0),
            Argument::Pair(name, value) => Word::new(value)
                .map(|w| format!("{name}={}", w.0))
                .map_err(|_| format!("{name} cannot stand in a boot script")),
        });
        let line = words.collect::<Result<Vec<_>, _>>()?.join(" ");
        if line.len() > ARGUMENTS_MAX {
            return Err(format!(
                "the kernel arguments are {} bytes long; {ARGUMENTS_MAX} is the most",
                line.len()
            ));
        }
        Ok(AGENT.replace("{{files}}", &self.files.0).replace("{{arguments}}", &line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn builder() -> Builder {
        Builder::new("http://10.88.0.1:8080").unwrap()
    }

    fn agent(words: &[&str]) -> Script {
        Script::Agent { arguments: words.iter().map(|w| Argument::Word((*w).to_owned())).collect() }
    }

    #[test]
    fn the_agents_script_names_its_files_and_arguments() {
        let text = builder().text(&agent(&["console=ttyS0", "quiet"])).unwrap();
        assert!(text.starts_with("#!ipxe\n"));
        let kernel = text.lines().find(|l| l.starts_with("kernel ")).unwrap();
        assert_eq!(
            kernel,
            "kernel http://10.88.0.1:8080/boot/files/vmlinuz initrd=initramfs.img BOOTIF=01-${mac:hexhyp} console=ttyS0 quiet || goto again"
        );
        assert!(!text.contains("{{"));
    }

    #[test]
    fn what_would_be_more_than_a_word_is_refused() {
        for bad in ["a\nboot http://evil/", "a b", "${uuid}", "", "a\r", "\u{1b}", "é", "a|b", "x#"] {
            let error = builder().text(&agent(&[bad])).unwrap_err();
            assert!(error.contains("boot script"), "{error}");
            assert!(!error.contains('\n'));
        }
        let pair = Script::Agent { arguments: vec![Argument::Pair("provisioner.boot", "se cret".into())] };
        assert!(!builder().text(&pair).unwrap_err().contains("cret"));
        assert!(builder().text(&agent(&["x".repeat(5000).as_str()])).is_err());
    }

    proptest! {
        #[test]
        fn no_value_adds_a_line(value in "\\PC*|.*") {
            let lines = builder().text(&agent(&["x"])).unwrap().lines().count();
            if let Ok(text) = builder().text(&agent(&[&value])) {
                prop_assert_eq!(text.lines().count(), lines);
            }
        }
    }
}
