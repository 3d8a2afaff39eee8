//! The text of iPXE scripts, made of the files in `ipxe/` and checked values. A value that would be more than one
//! word, or that iPXE would expand (`${…}`), is an error and not a new line (CVE-2026-46447 was one).

use super::boot::{Argument, Door, Script};
use crate::inventory::DiskBoot;

const AGENT: &str = include_str!("../../../ipxe/agent.ipxe");
const NO_AGENT: &str = include_str!("../../../ipxe/no-agent.ipxe");
const NETBOOT: &str = include_str!("../../../ipxe/netboot.ipxe");
const DISK: &str = include_str!("../../../ipxe/disk.ipxe");
const DISK_EXIT: &str = include_str!("../../../ipxe/disk-exit.ipxe");
const DISK_SANBOOT: &str = include_str!("../../../ipxe/disk-sanboot.ipxe");
const NOTHING: &str = include_str!("../../../ipxe/nothing.ipxe");
/// Kernels take 2,048 bytes on x86; iPXE's own words need some.
const ARGUMENTS_MAX: usize = 1800;

/// One value that may stand in a script: printable ASCII without spaces, quotes, `$`, `\`, `#` or control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word(String);

impl Word {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

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

/// The words of `arguments`, each as `shown` writes it, one space apart. An error names the value that cannot stand in a
/// boot script, unless the value is secret.
pub(super) fn line_of<'a>(
    arguments: impl IntoIterator<Item = &'a Argument>,
    shown: impl Fn(Word) -> String,
) -> Result<String, String> {
    let words = arguments.into_iter().map(|argument| match argument {
        Argument::Word(word) => Word::new(word),
        Argument::Pair(name, value) => Word::new(value)
            .map(|w| Word(format!("{name}={}", w.0)))
            .map_err(|_| format!("{name} cannot stand in a boot script")),
    });
    let line = words.map(|word| word.map(&shown)).collect::<Result<Vec<_>, _>>()?.join(" ");
    if line.len() > ARGUMENTS_MAX {
        return Err(format!(
            "the kernel arguments are {} bytes long; {ARGUMENTS_MAX} is the most",
            line.len()
        ));
    }
    Ok(line)
}

/// Makes scripts whose files are where the script came from.
#[derive(Debug, Clone)]
pub struct Builder {
    plain: Word,
    tls: Option<Word>,
    signed_agent: bool,
}

impl Builder {
    /// `base`: the plain listener as machines reach it, `http://10.88.0.1:8080`.
    pub fn new(base: &str) -> Result<Self, String> {
        Ok(Self { plain: files(base)?, tls: None, signed_agent: false })
    }

    /// `base`: the TLS listener as machines reach it.
    pub fn with_tls(self, base: &str) -> Result<Self, String> {
        Ok(Self { tls: Some(files(base)?), ..self })
    }

    /// Whether UEFI machines are given kernel and initramfs as one signed file.
    #[must_use]
    pub fn with_signed_agent(self, signed_agent: bool) -> Self {
        Self { signed_agent, ..self }
    }

    /// The whole text; an error names the value that cannot stand in it, unless the value is secret.
    pub fn text(&self, script: &Script) -> Result<String, String> {
        let (arguments, door) = match script {
            Script::Disk { by } => {
                return Ok(match by {
                    Some(DiskBoot::Exit) => DISK_EXIT,
                    Some(DiskBoot::Sanboot) => DISK_SANBOOT,
                    None | Some(DiskBoot::NotFound) => DISK,
                }
                .to_owned());
            }
            Script::Nothing => return Ok(NOTHING.to_owned()),
            Script::NoAgent { architecture } => return Ok(NO_AGENT.replace("{{architecture}}", architecture)),
            Script::Netboot { kernel, initramfs, authority, arguments } => {
                return netboot(kernel, initramfs, authority.as_ref(), arguments);
            }
            Script::Agent { arguments, door } => (arguments, door),
        };
        let files = match door {
            Door::Plain => &self.plain,
            Door::Tls => self.tls.as_ref().ok_or("there is no TLS listener for boot files")?,
        };
        let line = line_of(arguments, |word| word.0)?;
        let uefi = if self.signed_agent { "signed" } else { "parts" };
        Ok(AGENT.replace("{{uefi}}", uefi).replace("{{files}}", &files.0).replace("{{arguments}}", &line))
    }
}

/// Bytes of a URL in a script.
const URL_MAX: usize = 1000;

/// Where Go's programs, Ignition among them, look for authorities beside those of the system. The folder must be there: older
/// iPXE makes none, and made anew it would take the place of a link.
const AUTHORITY: &str = "/etc/ssl/certs/provisioner-site.pem";

/// Each initramfs has a name of its own: UEFI kernels are told them on their command line. iPXE makes an archive of a file
/// that comes with a path.
fn netboot(
    kernel: &str,
    initramfs: &[String],
    authority: Option<&String>,
    arguments: &[Argument],
) -> Result<String, String> {
    let line = line_of(arguments, |word| word.0)?;
    let all = initramfs.iter().map(|file| (file, String::new()));
    let archive = format!(" {AUTHORITY} mode=644");
    let all: Vec<_> = all.chain(authority.map(|file| (file, archive))).collect();
    let names = (0..all.len()).map(|n| format!("initrd=initrd{n}")).collect::<Vec<_>>().join(" ");
    let load = |(n, (file, place)): (usize, &(&String, String))| -> Result<String, String> {
        Ok(format!("initrd --name initrd{n} {}{place} || goto again\n", url(file)?.0))
    };
    let loads = all.iter().enumerate().map(load).collect::<Result<String, _>>()?;
    Ok(NETBOOT
        .replace("{{kernel}}", &url(kernel)?.0)
        .replace("{{names}}", &names)
        .replace("{{initramfs}}\n", &loads)
        .replace("{{arguments}}", &line))
}

fn url(text: &str) -> Result<Word, String> {
    match text.len() {
        0..=URL_MAX => Word::new(text),
        long => Err(format!("a URL of {long} bytes cannot stand in a boot script: {URL_MAX} is the most")),
    }
}

fn files(base: &str) -> Result<Word, String> {
    Word::new(&format!("{}/boot/files", base.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn builder() -> Builder {
        Builder::new("http://10.88.0.1:8080").unwrap()
    }

    fn agent(words: &[&str]) -> Script {
        by_door(words, Door::Plain)
    }

    fn by_door(words: &[&str], door: Door) -> Script {
        Script::Agent { arguments: words.iter().map(|w| Argument::Word((*w).to_owned())).collect(), door }
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
    fn files_come_by_the_door_that_the_script_came_by() {
        let script = by_door(&["quiet"], Door::Tls);
        assert!(builder().text(&script).unwrap_err().contains("TLS"));
        let text = builder().with_tls("https://10.88.0.1:8443/").unwrap().text(&script).unwrap();
        assert_eq!(text.matches("https://10.88.0.1:8443/boot/files/").count(), 3);
        assert!(!text.contains("http://"));
    }

    #[test]
    fn uefi_is_given_the_signed_agent_where_there_is_one() {
        let uefi = |builder: Builder| {
            let text = builder.text(&agent(&["quiet"])).unwrap();
            text.lines().find_map(|l| l.strip_prefix("iseq ${platform} efi && goto ")).unwrap().to_owned()
        };
        assert_eq!(uefi(builder()), "parts ||");
        assert_eq!(uefi(builder().with_signed_agent(true)), "signed ||");
    }

    #[test]
    fn what_would_be_more_than_a_word_is_refused() {
        for bad in ["a\nboot http://evil/", "a b", "${uuid}", "", "a\r", "\u{1b}", "é", "a|b", "x#"] {
            let error = builder().text(&agent(&[bad])).unwrap_err();
            assert!(error.contains("boot script"), "{error}");
            assert!(!error.contains('\n'));
        }
        let arguments = vec![Argument::Pair("provisioner.boot", "se cret".into())];
        let pair = Script::Agent { arguments, door: Door::Plain };
        assert!(!builder().text(&pair).unwrap_err().contains("cret"));
        assert!(builder().text(&agent(&["x".repeat(5000).as_str()])).is_err());
    }

    fn netboot(kernel: &str, word: &str) -> Script {
        let arguments = vec![Argument::Word(word.to_owned())];
        let initramfs = vec!["http://10.88.0.1:8080/images/a".to_owned(), "http://h/b".to_owned()];
        let authority = Some("http://h/boot/authority.pem".to_owned());
        Script::Netboot { kernel: kernel.to_owned(), initramfs, authority, arguments }
    }

    #[test]
    fn an_operating_systems_kernel_has_each_initramfs_by_name() {
        let text = builder().text(&netboot("http://h/k", "talos.platform=metal")).unwrap();
        let lines: Vec<&str> =
            text.lines().filter(|l| l.starts_with("kernel ") || l.starts_with("initrd ")).collect();
        assert_eq!(
            lines,
            [
                "kernel http://h/k initrd=initrd0 initrd=initrd1 initrd=initrd2 talos.platform=metal || goto again",
                "initrd --name initrd0 http://10.88.0.1:8080/images/a || goto again",
                "initrd --name initrd1 http://h/b || goto again",
                "initrd --name initrd2 http://h/boot/authority.pem /etc/ssl/certs/provisioner-site.pem mode=644 || goto again"
            ]
        );
        // Talos' own variables would be iPXE's first: `${uuid}` is not what it seems.
        for bad in ["talos.config=http://h/?u=${uuid}", "a b", "a\nboot"] {
            assert!(builder().text(&netboot("http://h/k", bad)).unwrap_err().contains("boot script"));
            assert!(builder().text(&netboot(bad, "quiet")).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_value_adds_a_line_to_a_netboot(value in "\\PC*|.*") {
            let lines = builder().text(&netboot("k", "x")).unwrap().lines().count();
            for script in [netboot("k", &value), netboot(&value, "x")] {
                if let Ok(text) = builder().text(&script) {
                    prop_assert_eq!(text.lines().count(), lines);
                }
            }
        }

        /// What is refused in a boot script is refused where it is declared, before any power change.
        #[test]
        fn every_declared_argument_can_stand_in_a_script(value in "[!-~]{1,40}|[ -~]{0,8}|\\PC{0,8}") {
            if value.parse::<crate::inventory::KernelArgument>().is_ok() {
                let text = builder().text(&agent(&[&value, "last"])).unwrap();
                let argument = format!(" {value} last ");
                prop_assert!(text.contains(&argument), "{}", text);
            }
        }

        #[test]
        fn no_value_adds_a_line(value in "\\PC*|.*") {
            let lines = builder().text(&agent(&["x"])).unwrap().lines().count();
            if let Ok(text) = builder().text(&agent(&[&value])) {
                prop_assert_eq!(text.lines().count(), lines);
            }
        }
    }
}
