//! The settings that Bottlerocket's models have (bottlerocket-settings-sdk, `bottlerocket-settings-models` to 0.28, of all
//! releases together, and `kernel.drivers` after it), as far as they are of its metal variants. What is only proposed
//! there is left out: Bottlerocket's API refuses the whole user data for a name that it has not, and the first boot stops.

use Shape::{Any, Flag, Group, Items, List, Mirrors, Named, Text, Whole};

/// What a setting's value is.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Not checked further: the model takes more than one form of it.
    Any,
    Flag,
    Whole,
    Text,
    /// Of texts.
    List,
    /// A table with names of the operator's own.
    Named(&'static Shape),
    /// A table with exactly these keys.
    Group(&'static [(&'static str, Shape)]),
    /// A list of tables with these keys.
    Items(&'static [(&'static str, Shape)]),
    /// The same, or a table of names to lists of texts.
    Mirrors(&'static [(&'static str, Shape)]),
}

/// Groups of `settings` that only variants for AWS have.
pub(super) const ONLY_AWS: [&str; 3] = ["autoscaling", "cloudformation", "ecs"];

pub(super) const SETTINGS: &[(&str, Shape)] = &[
    ("aws", Group(&[("config", Text), ("credentials", Text), ("profile", Text), ("region", Text)])),
    ("boot", Group(BOOT)),
    ("bootstrap-commands", Named(&Group(&[("commands", Any), ("essential", Flag), ("mode", Text)]))),
    ("bootstrap-containers", Named(&Group(BOOTSTRAP_CONTAINER))),
    (
        "container-registry",
        Group(&[("credentials", CREDENTIALS), ("creds", CREDENTIALS), ("mirrors", MIRRORS)]),
    ),
    ("container-runtime", Group(CONTAINER_RUNTIME)),
    ("container-runtime-plugins", Group(&[("soci-snapshotter", Group(SOCI))])),
    ("dns", Group(&[("name-servers", List), ("search-list", List)])),
    ("host-containers", Named(&Group(HOST_CONTAINER))),
    // Beside `enabled` it has tables of any plugin's name.
    ("image-verifier-plugins", Named(&Any)),
    ("kernel", Group(KERNEL)),
    ("kubelet-device-plugins", Group(&[("nvidia", Any)])),
    ("kubelet-dra-drivers", Group(&[("nvidia", Any)])),
    ("kubernetes", Group(KUBERNETES)),
    ("measurement", Group(&[("excluded-settings", List)])),
    ("metrics", Group(&[("metrics-url", Text), ("send-metrics", Flag), ("service-checks", List)])),
    ("motd", Text),
    ("network", Group(NETWORK)),
    ("ntp", Group(&[("options", List), ("time-servers", List)])),
    ("nvidia-container-runtime", Group(NVIDIA_RUNTIME)),
    ("oci-defaults", Group(&[("capabilities", Named(&Flag)), ("resource-limits", Named(&Group(LIMIT)))])),
    ("oci-hooks", Group(&[("log4j-hotpatch-enabled", Flag)])),
    ("pki", Named(&Group(&[("data", Text), ("trusted", Flag)]))),
    ("updates", Group(UPDATES)),
];

const BOOT: &[(&str, Shape)] = &[
    ("init", Any),
    ("init-parameters", Any),
    ("kernel", Any),
    ("kernel-parameters", Any),
    ("reboot-to-reconcile", Flag),
];

const BOOTSTRAP_CONTAINER: &[(&str, Shape)] =
    &[("command", List), ("essential", Flag), ("mode", Text), ("source", Text), ("user-data", Text)];

const HOST_CONTAINER: &[(&str, Shape)] =
    &[("command", List), ("enabled", Flag), ("source", Text), ("superpowered", Flag), ("user-data", Text)];

const MIRRORS: Shape = Mirrors(&[("endpoint", List), ("registry", Text)]);

const CREDENTIALS: Shape = Items(&[
    ("auth", Text),
    ("identitytoken", Text),
    ("password", Text),
    ("registry", Text),
    ("username", Text),
]);

const CONTAINER_RUNTIME: &[(&str, Shape)] = &[
    ("concurrent-download-chunk-size", Any),
    ("concurrent-layer-fetch-buffer", Any),
    ("enable-unprivileged-icmp", Flag),
    ("enable-unprivileged-ports", Flag),
    ("max-concurrent-downloads", Whole),
    ("max-concurrent-unpacks", Whole),
    ("max-container-log-line-size", Whole),
    ("snapshotter", Text),
];

const SOCI: &[(&str, Shape)] = &[("parallel-pull-unpack", Group(SOCI_PULL)), ("pull-mode", Text)];

const SOCI_PULL: &[(&str, Shape)] = &[
    ("concurrent-download-chunk-size", Any),
    ("discard-unpacked-layers", Flag),
    ("max-concurrent-downloads", Whole),
    ("max-concurrent-downloads-per-image", Whole),
    ("max-concurrent-unpacks", Whole),
    ("max-concurrent-unpacks-per-image", Whole),
];

const KERNEL: &[(&str, Shape)] = &[
    ("drivers", Any),
    ("hugepages", Any),
    ("lockdown", Text),
    ("modules", Named(&Group(&[("allowed", Flag), ("autoload", Flag)]))),
    ("sysctl", Named(&Text)),
];

const NETWORK: &[(&str, Shape)] =
    &[("hostname", Text), ("hosts", Any), ("https-proxy", Text), ("no-proxy", List)];

const NVIDIA_RUNTIME: &[(&str, Shape)] =
    &[("visible-devices-as-volume-mounts", Flag), ("visible-devices-envvar-when-unprivileged", Flag)];

/// Numbers, or `unlimited`.
const LIMIT: &[(&str, Shape)] = &[("hard-limit", Any), ("soft-limit", Any)];

const UPDATES: &[(&str, Shape)] = &[
    ("ignore-waves", Flag),
    ("metadata-base-url", Text),
    ("seed", Whole),
    ("targets-base-url", Text),
    ("version-lock", Text),
];

const CREDENTIAL_PROVIDER: &[(&str, Shape)] =
    &[("cache-duration", Text), ("enabled", Flag), ("environment", Named(&Text)), ("image-patterns", List)];

const KUBERNETES: &[(&str, Shape)] = &[
    ("allowed-unsafe-sysctls", List),
    ("api-server", Text),
    ("authentication-mode", Text),
    ("bootstrap-token", Text),
    ("cloud-provider", Text),
    ("cluster-certificate", Text),
    ("cluster-dns-ip", Any),
    ("cluster-domain", Text),
    ("cluster-name", Text),
    ("container-log-max-files", Whole),
    ("container-log-max-size", Text),
    ("container-log-max-workers", Whole),
    ("container-log-monitor-interval", Text),
    ("container-runtime-endpoint", Text),
    ("cpu-cfs-quota-enforced", Flag),
    ("cpu-manager-policy", Text),
    ("cpu-manager-policy-options", List),
    ("cpu-manager-reconcile-period", Text),
    ("credential-providers", Named(&Group(CREDENTIAL_PROVIDER))),
    ("device-ownership-from-security-context", Flag),
    ("event-burst", Whole),
    ("event-qps", Whole),
    ("eviction-hard", Named(&Text)),
    ("eviction-max-pod-grace-period", Any),
    ("eviction-soft", Named(&Text)),
    ("eviction-soft-grace-period", Named(&Text)),
    ("fail-cgroup-v1", Flag),
    ("fail-cgroupv1", Flag),
    ("hostname-override", Text),
    ("hostname-override-source", Text),
    ("ids-per-pod", Any),
    ("image-gc-high-threshold-percent", Any),
    ("image-gc-low-threshold-percent", Any),
    ("image-maximum-gc-age", Text),
    ("image-minimum-gc-age", Text),
    ("kube-api-burst", Whole),
    ("kube-api-qps", Whole),
    ("kube-reserved", Named(&Text)),
    ("log-level", Whole),
    ("max-parallel-image-pulls", Whole),
    ("max-pods", Whole),
    ("memory-manager-policy", Text),
    ("memory-manager-reserved-memory", Named(&Any)),
    ("memory-reservation-policy", Any),
    ("memory-swap-behavior", Text),
    ("memory-throttling-factor", Any),
    ("node-ip", Text),
    ("node-labels", Named(&Text)),
    ("node-taints", Named(&Any)),
    // Of the models to 0.4.
    ("nvidia", Any),
    ("pod-infra-container-image", Text),
    ("pod-pids-limit", Whole),
    ("provider-id", Text),
    ("registry-burst", Whole),
    ("registry-qps", Whole),
    ("reserved-cpus", Text),
    ("seccomp-default", Flag),
    ("server-certificate", Text),
    ("server-key", Text),
    ("server-tls-bootstrap", Flag),
    ("shutdown-grace-period", Text),
    ("shutdown-grace-period-for-critical-pods", Text),
    ("single-process-oom-kill", Flag),
    ("standalone-mode", Flag),
    ("static-pods", Named(&Group(&[("enabled", Flag), ("manifest", Text)]))),
    ("static-pods-enabled", Flag),
    ("system-reserved", Named(&Text)),
    ("topology-manager-policy", Text),
    ("topology-manager-policy-options", Any),
    ("topology-manager-scope", Text),
];
