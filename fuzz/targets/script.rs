//! iPXE scripts with any values: no value adds a line, or anything that iPXE expands.

use provisioner::http::{
    boot::{Argument, Door, Script},
    script::Builder,
};

/// Lines are the words of the kernel command line; the last is also the base URL.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(plain) = Builder::new("http://10.88.0.1:8080") else { panic!("a good base URL is refused") };
    let builder =
        text.rsplit('\u{1}').next().and_then(|base| Builder::new(base).ok()).unwrap_or(plain.clone());
    let arguments: Vec<_> = text
        .split('\u{1}')
        .map(|word| match word.strip_prefix('=') {
            Some(value) => Argument::Pair("provisioner.boot", value.to_owned()),
            None => Argument::Word(word.to_owned()),
        })
        .collect();
    let agent = |arguments: &[Argument]| Script::Agent { arguments: arguments.to_vec(), door: Door::Plain };
    let url = text.rsplit('\u{1}').next().unwrap_or_default().to_owned();
    let netboot = |arguments: &[Argument]| {
        let (kernel, initramfs) = (url.clone(), vec![url.clone()]);
        Script::Netboot { kernel, initramfs, authority: None, arguments: arguments.to_vec() }
    };
    let other = |arguments: &[Argument]| {
        let (kernel, initramfs) = ("http://h/k".to_owned(), vec!["http://h/i".to_owned()]);
        Script::Netboot { kernel, initramfs, authority: None, arguments: arguments.to_vec() }
    };
    for builder in [plain.clone(), builder] {
        for (script, good) in [(agent(&arguments), agent(&[])), (netboot(&arguments), other(&[]))] {
            let empty = lines(&plain, good).expect("no arguments are refused");
            held_to(&builder, script, &empty);
        }
    }
}

/// The script has no more lines, commands and expansions than it has without any value.
fn held_to(builder: &Builder, script: Script, empty: &[String]) {
    let Some(made) = lines(builder, script) else { return };
    assert_eq!(made.len(), empty.len(), "a value has made a line");
    for (made, empty) in made.iter().zip(empty) {
        assert_eq!(made.matches("${").count(), empty.matches("${").count(), "a value is expanded: {made}");
        assert_eq!(made.matches("||").count(), empty.matches("||").count(), "a value is a command: {made}");
        assert!(made.len() < 4096, "a line of {} bytes", made.len());
    }
}

fn lines(builder: &Builder, script: Script) -> Option<Vec<String>> {
    let text = builder.text(&script).ok()?;
    assert!(text.starts_with("#!ipxe\n"), "not a script");
    assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "not plain text");
    Some(text.lines().map(str::to_owned).collect())
}
