//! Machines, profiles and images as declared. Files in `hardware/` and bodies of the REST API are two doors to the same
//! types; the store keeps them as the same JSON.
//!
//! In: YAML files ([`load`]) or one record. Out: an [`Inventory`] in which every reference holds and no identity is used
//! twice, or every [`Problem`] with its place. Also PURE: who a machine is and which disk is meant ([`matching`]).

pub mod check;
mod check_cluster;
mod check_delivery;
mod check_network;
pub mod cluster;
pub mod dhcp_options;
pub mod hardware;
pub mod identity;
pub mod image;
mod json;
mod load;
pub(crate) mod located;
pub mod matching;
pub mod network;
mod oci_reference;
pub mod password;
mod problem;
pub mod profile;
pub mod signature;
pub mod values;

pub use check::check;
pub use check_network::unfit;
pub use cluster::{CaCertificate, Cluster};
pub use dhcp_options::DhcpOptions;
pub use hardware::{Bmc, BootBy, DiskBoot, Hardware, Nic, Password, PxeLead, Quirks, Values};
pub use image::{DeclaredSha256, ImageDeclaration, ImageSource};
pub use json::{check_change, from_json};
pub use load::load;
pub(crate) use load::{strict, yaml_problem};
pub(crate) use located::Located;
pub use oci_reference::OciReference;
pub use password::BMC_PASSWORD;
pub use problem::Problem;
pub use profile::{
    Delivery, DiskHints, ExpectedTaint, FetchedFrom, IssuerKind, Method, NetbootFiles, OperatingSystem, Over,
    Placement, Profile, Readiness, ReadyBy, TokenPolicy, UrlDelivery,
};
pub use signature::{SignaturePolicy, SignaturesRequired};
pub use values::{
    AbsoluteDirectory, BadValue, HttpUrl, KernelArgument, Line, Period, RecordName, RelativePath, Sha256Hex,
    Sha512Hex, Size,
};

use serde::Serialize;

/// All that is declared.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Inventory {
    pub machines: Vec<Hardware>,
    pub profiles: Vec<Profile>,
    pub images: Vec<ImageDeclaration>,
    pub clusters: Vec<Cluster>,
}
