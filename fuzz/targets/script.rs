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
    let empty = lines(&plain, Script::Agent { arguments: Vec::new(), door: Door::Plain })
        .expect("no arguments are refused");
    for builder in [plain, builder] {
        let script = Script::Agent { arguments: arguments.clone(), door: Door::Plain };
        let Some(made) = lines(&builder, script) else { continue };
        assert_eq!(made.len(), empty.len(), "a value has made a line");
        for (made, empty) in made.iter().zip(&empty) {
            assert_eq!(
                made.matches("${").count(),
                empty.matches("${").count(),
                "a value is expanded: {made}"
            );
            assert_eq!(
                made.matches("||").count(),
                empty.matches("||").count(),
                "a value is a command: {made}"
            );
            assert!(made.len() < 4096, "a line of {} bytes", made.len());
        }
    }
}

fn lines(builder: &Builder, script: Script) -> Option<Vec<String>> {
    let text = builder.text(&script).ok()?;
    assert!(text.starts_with("#!ipxe\n"), "not a script");
    assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "not plain text");
    Some(text.lines().map(str::to_owned).collect())
}
