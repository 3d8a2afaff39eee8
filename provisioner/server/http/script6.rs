//! Scripts that are fetched over IPv6 hand the agent the address that iPXE has used: the boot environment has no DHCPv6
//! client, and the address is the machine's already, by DHCPv6 or by the router's prefix.

use provisioner_wire::order::cmdline::{ADDRESS6, ROUTER6};

/// What every kernel line of our scripts has.
const BOOTIF: &str = "BOOTIF=01-${mac:hexhyp}";

/// The script `text` with its own network's address on each kernel line, as variables that iPXE fills in.
pub fn with_address(text: &str) -> String {
    let address = format!("{ADDRESS6}=${{netX/ip6}}/${{netX/len6}} {ROUTER6}=${{netX/gateway6}}");
    text.replace(BOOTIF, &format!("{BOOTIF} {address}"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{boot::Script, script::Builder},
        *,
    };

    #[test]
    fn the_agents_kernel_line_has_the_address_and_nothing_else_changes() {
        let builder = Builder::new("http://[fd88::1]:8080").unwrap();
        let script = Script::Agent { arguments: Vec::new() };
        let plain = builder.text(&script).unwrap();
        let text = with_address(&plain);
        let kernel = text.lines().find(|line| line.starts_with("kernel ")).unwrap();
        assert!(kernel.starts_with("kernel http://[fd88::1]:8080/boot/files/vmlinuz "), "{kernel}");
        assert!(
            kernel
                .contains(" provisioner.ip6=${netX/ip6}/${netX/len6} provisioner.router6=${netX/gateway6} ")
        );
        assert_eq!(text.lines().count(), plain.lines().count());
        let disk = builder.text(&Script::Disk).unwrap();
        assert_eq!(with_address(&disk), disk);
    }
}
