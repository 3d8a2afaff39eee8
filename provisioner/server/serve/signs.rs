//! What DHCP, TFTP and HTTP tell, as the doctor's signs.

use crate::{
    dhcp::{self, Heard, Said, Told, bootfile::NoBoot, client, v6},
    doctor::sign::{Answer, Boot, End, Fetch, Foreign, PORT_V6, Packet, Platform, Program, Sign, Transfer},
    http::boot_plane::Fetched,
    tftp,
};
use provisioner_wire::report::{clean, clean_to};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A URL's path may be longer than a word.
const PATH_MAX: usize = 256;

pub fn packet(heard: &Heard) -> Sign {
    let (client, details) = (&heard.client, &heard.details);
    Sign::Dhcp(Box::new(Packet {
        message: heard.message.to_owned(),
        port: details.port,
        program: program(client.program),
        who: client.to_string(),
        architectures: client.architectures.iter().map(|a| a.0).collect(),
        platform: client.platform().map(platform),
        uuid: client.uuid,
        vendor_class: clean(&client.vendor_class),
        user_class: details.user_class.clone(),
        client_id: details.client_id.clone(),
        undi: details.undi.clone(),
        parameters: details.parameters.clone(),
        max_size: details.max_size,
        xid: details.xid,
        secs: details.secs,
        relay: Some(heard.relay).filter(|ip| !ip.is_unspecified()).map(IpAddr::V4),
        address: details.address.map(IpAddr::V4),
        server: details.server,
        answer: answer(&heard.said),
    }))
}

/// A message over IPv6: the firmware is the same, and so are most of the causes.
pub fn packet6(heard: &v6::Heard) -> Sign {
    let client = &heard.client;
    Sign::Dhcp(Box::new(Packet {
        message: heard.message.to_owned(),
        port: PORT_V6,
        program: program(client.program),
        who: client.to_string(),
        architectures: client.architectures.iter().map(|a| a.0).collect(),
        platform: client.platform().map(platform),
        uuid: client.uuid,
        vendor_class: clean(&client.vendor_class),
        user_class: None,
        client_id: Some(provisioner_wire::ids::hex(&heard.duid)),
        undi: None,
        parameters: Vec::new(),
        max_size: None,
        xid: 0,
        secs: 0,
        relay: heard.relay.map(IpAddr::V6),
        address: None,
        server: None,
        answer: answer6(&heard.said),
    }))
}

fn answer6(said: &v6::Said) -> Answer {
    let ip = |ip: &Option<Ipv6Addr>| ip.map(IpAddr::V6);
    match said {
        v6::Said::Advertise { ip: given, boot: told } => Answer::Offer { ip: ip(given), boot: boot(told) },
        v6::Said::Reply { ip: given, boot: told } => Answer::Ack { ip: ip(given), boot: boot(told) },
        v6::Said::NoAddress { reason } => Answer::NoAddress { reason: (*reason).to_owned() },
        v6::Said::Status { status } => Answer::Status { status: (*status).to_owned() },
        v6::Said::Nothing { reason } => Answer::Nothing { reason: (*reason).to_owned() },
        v6::Said::AddressConflict { ip } => Answer::Conflict { ip: IpAddr::V6(*ip) },
    }
}

fn program(program: client::Program) -> Program {
    match program {
        client::Program::Pxe => Program::Pxe,
        client::Program::Http => Program::HttpBoot,
        client::Program::Ipxe { .. } => Program::Ipxe,
        client::Program::System => Program::System,
    }
}

fn answer(said: &Said) -> Answer {
    let ip = |ip: Ipv4Addr| Some(ip).filter(|ip| !ip.is_unspecified()).map(IpAddr::V4);
    match said {
        Said::Offer { ip: given, boot: told } => Answer::Offer { ip: ip(*given), boot: boot(told) },
        Said::Ack { ip: given, boot: told } => Answer::Ack { ip: ip(*given), boot: boot(told) },
        // A DISCOVER is answered with an offer, a REQUEST on port 4011 with an acknowledgement.
        Said::Boot { port: 67, boot: told } => Answer::Offer { ip: None, boot: boot(told) },
        Said::Boot { boot: told, .. } => Answer::Ack { ip: None, boot: boot(told) },
        Said::Nak { reason } => Answer::Nak { reason: (*reason).to_owned() },
        Said::Nothing { reason } => Answer::Nothing { reason: (*reason).to_owned() },
        Said::AddressConflict { ip } => Answer::Conflict { ip: IpAddr::V4(*ip) },
    }
}

fn boot(told: &Told) -> Boot {
    match told {
        Told::File(file) => Boot::File(file.clone()),
        Told::Ask => Boot::Ask,
        Told::None => Boot::None,
        Told::Missing(NoBoot::Loop) => Boot::Loop,
        Told::Missing(why) => Boot::Missing(why.to_string()),
    }
}

fn platform(platform: client::Platform) -> Platform {
    match platform {
        client::Platform::Bios => Platform::Bios,
        client::Platform::UefiX86 => Platform::UefiX86,
        client::Platform::UefiX64 => Platform::UefiX64,
        client::Platform::UefiArm32 => Platform::UefiArm32,
        client::Platform::UefiArm64 => Platform::UefiArm64,
        client::Platform::UefiRiscv64 => Platform::UefiRiscv64,
        client::Platform::UefiLoong64 => Platform::UefiLoong64,
    }
}

pub fn transfer(t: tftp::Transferred, made_for: Option<Platform>) -> Sign {
    Sign::Transfer(Transfer {
        file: t.file,
        made_for,
        bytes: t.bytes as u64,
        acknowledged: t.acknowledged as u64,
        block_size: t.block_size as u64,
        agreed: t.heard,
        retransmits: t.retransmits,
        milliseconds: t.milliseconds,
        end: match t.end {
            tftp::End::Complete => End::Complete,
            tftp::End::Aborted(why) => End::Aborted(clean(&why)),
            tftp::End::Silent => End::Silent,
            tftp::End::Refused(why) => End::Refused(why.to_owned()),
        },
    })
}

pub fn fetch(fetched: Fetched, made_for: Option<Platform>) -> Sign {
    Sign::Fetch(Fetch {
        method: fetched.method,
        path: clean_to(&fetched.path, PATH_MAX),
        made_for,
        status: fetched.status,
        bytes: fetched.bytes,
        whole: fetched.whole,
        agent: clean(&fetched.agent),
    })
}

pub fn foreign(foreign: &dhcp::rogue::Foreign) -> Sign {
    Sign::Foreign(Foreign {
        server: foreign.server,
        mac: foreign.mac.map(|mac| mac.to_string()),
        file: foreign.boot_file.clone(),
        chosen: foreign.how == dhcp::rogue::How::Request,
    })
}
