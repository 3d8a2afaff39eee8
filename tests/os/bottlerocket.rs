//! Bottlerocket's settings: known and unknown ones.

use super::refused;
use provisioner::inventory::OperatingSystem::Bottlerocket;

fn problems(user_data: &str) -> Vec<String> {
    refused(Bottlerocket, "user-data.toml", user_data)
}

/// Of every group one setting or more, as the makers' documents write them.
const GOOD: &str = r#"[settings]
motd = "hello"
[settings.kubernetes]
cluster-name = "c"
standalone-mode = true
max-pods = 110
cluster-dns-ip = ["10.96.0.10", "fd00::a"]
node-labels = {"example.com/rack" = "r1"}
node-taints = {"dedicated" = ["a:NoSchedule"], "old" = "b:NoExecute"}
eviction-hard = {"memory.available" = "15%"}
[settings.kubernetes.static-pods.web]
enabled = true
manifest = "eA=="
[settings.kubernetes.credential-providers.ecr-credential-provider]
enabled = true
image-patterns = ["*.dkr.ecr.us-east-2.amazonaws.com"]
environment = {HOME = "/root"}
[settings.host-containers.admin]
enabled = true
superpowered = true
[settings.bootstrap-containers.bear]
source = "example.com/bear:1"
mode = "once"
essential = false
[settings.bootstrap-commands.k]
commands = [["apiclient", "set", "motd=x"]]
mode = "always"
[settings.kernel]
lockdown = "integrity"
sysctl = {"user.max_user_namespaces" = "16384"}
[settings.kernel.modules.sctp]
allowed = true
[settings.boot]
reboot-to-reconcile = true
kernel-parameters = {console = ["ttyS0"]}
[settings.network]
hostname = "n"
hosts = [["10.0.0.1", ["a", "b"]]]
no-proxy = ["localhost"]
[settings.dns]
name-servers = ["10.0.0.1"]
[settings.ntp]
time-servers = ["ntp.example"]
[settings.metrics]
send-metrics = false
[settings.updates]
ignore-waves = true
seed = 5
[settings.pki.site]
data = "eA=="
trusted = true
[settings.aws]
region = "r"
[settings.container-runtime]
max-concurrent-downloads = 3
[[settings.container-registry.mirrors]]
registry = "docker.io"
endpoint = ["https://mirror.example"]
[[settings.container-registry.credentials]]
registry = "docker.io"
username = "u"
[settings.oci-defaults.capabilities]
sys-admin = true
[settings.oci-defaults.resource-limits.max-open-files]
hard-limit = "unlimited"
soft-limit = 1024
[settings.oci-hooks]
log4j-hotpatch-enabled = false
"#;

#[test]
fn known_settings_of_every_group_are_taken() {
    assert_eq!(problems(GOOD), Vec::<String>::new());
    let older = "[settings.container-registry.mirrors]\n\"docker.io\" = [\"https://mirror.example\"]\n";
    assert_eq!(problems(older), Vec::<String>::new());
}

#[test]
fn a_setting_that_is_none_names_its_place_and_what_may_be_meant() {
    for (from, to, said) in [
        (
            "cluster-name",
            "clustername",
            ":4:1: unknown field settings.kubernetes.clustername; did you mean cluster-name?",
        ),
        ("max-pods", "max_pods", ":6:1: unknown field settings.kubernetes.max_pods; did you mean max-pods?"),
        ("max-pods", "frobnicate", ":6:1: unknown field settings.kubernetes.frobnicate"),
        ("settings.dns", "settings.dsn", "unknown field settings.dsn; did you mean dns?"),
        (
            "settings.host-containers",
            "settings.hostcontainers",
            "settings.hostcontainers; did you mean host-containers?",
        ),
        ("settings.metrics", "settings.xfs", "unknown field settings.xfs"),
        (
            "settings.metrics",
            "settings.ecs",
            "settings.ecs is of Bottlerocket's variants for AWS, not for metal",
        ),
        (
            "superpowered",
            "superpower",
            "unknown field settings.host-containers.admin.superpower; did you mean superpowered?",
        ),
        (
            "essential",
            "esential",
            "unknown field settings.bootstrap-containers.bear.esential; did you mean essential?",
        ),
        (
            "manifest",
            "manifst",
            "unknown field settings.kubernetes.static-pods.web.manifst; did you mean manifest?",
        ),
        ("allowed", "alowed", "unknown field settings.kernel.modules.sctp.alowed; did you mean allowed?"),
        ("endpoint", "endpoints", "settings.container-registry.mirrors[0].endpoints; did you mean endpoint?"),
        ("username", "user", "unknown field settings.container-registry.credentials[0].user"),
        (
            "hard-limit",
            "hardlimit",
            "settings.oci-defaults.resource-limits.max-open-files.hardlimit; did you mean hard-limit?",
        ),
        ("hostname = ", "host-name = ", "unknown field settings.network.host-name; did you mean hostname?"),
        ("mode = true", "mode = \"true\"", ":5:19: settings.kubernetes.standalone-mode is not true or false"),
        ("= 110", "= \"110\"", "settings.kubernetes.max-pods is not a whole number"),
        ("\"16384\"", "16384", "settings.kernel.sysctl.user.max_user_namespaces is not a text"),
        ("[\"10.0.0.1\"]", "\"10.0.0.1\"", "settings.dns.name-servers is not a list of texts"),
        ("[\"10.0.0.1\"]", "[1]", "settings.dns.name-servers[0] is not a text"),
        ("motd = \"hello\"", "motd = {}", ":2:8: settings.motd is not a text"),
        (
            "motd = \"hello\"",
            "nvidia-container-runtime = 5",
            ":2:28: settings.nvidia-container-runtime is not a table",
        ),
        ("[settings.kubernetes]", "[kubernetes]", ":3:2: user data holds [settings.…] only, not kubernetes"),
        ("cluster-name = \"c\"", "cluster-name = c", "user-data.toml:4:"),
    ] {
        let bad = GOOD.replacen(from, to, 1);
        assert_ne!(bad, GOOD, "{from}");
        let problems = problems(&bad);
        assert!(
            problems.iter().any(|p| p.starts_with("user-data.toml:") && p.contains(said)),
            "{to}: {problems:#?}"
        );
    }
    let far = problems("[settings.kubernetes]\nfrobnicate = 1\n");
    assert_eq!(far, ["user-data.toml:2:1: unknown field settings.kubernetes.frobnicate"]);
}

/// Bottlerocket reads an empty file as no settings, and stops at one that has all but them.
#[test]
fn user_data_without_settings_is_refused_unless_it_is_empty() {
    assert_eq!(problems(""), Vec::<String>::new());
    assert_eq!(
        problems("# later\n"),
        ["user-data.toml:1:1: there is no [settings], without which the first boot stops"]
    );
}
