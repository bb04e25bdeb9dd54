//! Which of the API's types an event is.

use farrier_netboot::EventKind;
use farrier_proto::rack::BootEventType;

pub(crate) fn boot_event_type(kind: &EventKind) -> BootEventType {
    match kind {
        EventKind::Discover => BootEventType::DhcpDiscover,
        EventKind::Offer => BootEventType::DhcpOffer,
        EventKind::Request => BootEventType::DhcpRequest,
        EventKind::Ack => BootEventType::DhcpAck,
        EventKind::Nak => BootEventType::DhcpNak,
        EventKind::Inform => BootEventType::DhcpInform,
        EventKind::Decline => BootEventType::DhcpDecline,
        EventKind::Release => BootEventType::DhcpRelease,
        // By what it was; that it changed nothing is for people.
        EventKind::Ignored { message: "DHCPDISCOVER" } => BootEventType::DhcpDiscover,
        EventKind::Ignored { message: "DHCPREQUEST" } => BootEventType::DhcpRequest,
        EventKind::Ignored { message: "DHCPINFORM" } => BootEventType::DhcpInform,
        EventKind::Ignored { message: "DHCPDECLINE" } => BootEventType::DhcpDecline,
        EventKind::Ignored { message: "DHCPRELEASE" } => BootEventType::DhcpRelease,
        EventKind::Ignored { message } => boot_event_type(&EventKind::Dhcp6(message)),
        EventKind::Dhcp6("SOLICIT") => BootEventType::Dhcp6Solicit,
        EventKind::Dhcp6("ADVERTISE") => BootEventType::Dhcp6Advertise,
        EventKind::Dhcp6("REQUEST") => BootEventType::Dhcp6Request,
        EventKind::Dhcp6("CONFIRM") => BootEventType::Dhcp6Confirm,
        EventKind::Dhcp6("RENEW") => BootEventType::Dhcp6Renew,
        EventKind::Dhcp6("REBIND") => BootEventType::Dhcp6Rebind,
        EventKind::Dhcp6("REPLY") => BootEventType::Dhcp6Reply,
        EventKind::Dhcp6("RELEASE") => BootEventType::Dhcp6Release,
        EventKind::Dhcp6("DECLINE") => BootEventType::Dhcp6Decline,
        EventKind::Dhcp6("INFORMATION-REQUEST") => BootEventType::Dhcp6InformationRequest,
        EventKind::OtherServer => BootEventType::OtherDhcpServer,
        EventKind::ForeignServer { .. } => BootEventType::ForeignDhcpServer,
        EventKind::RogueRouter { .. } => BootEventType::RogueRouter,
        EventKind::AddressInUse => BootEventType::AddressInUse,
        EventKind::LeaseNotWritten => BootEventType::LeaseNotWritten,
        EventKind::AnswerNotSent => BootEventType::AnswerNotSent,
        EventKind::UnknownMac { .. } => BootEventType::UnknownMachine,
        EventKind::Guest { .. } => BootEventType::PoolAddress,
        EventKind::PoolExhausted { .. } => BootEventType::PoolExhausted,
        EventKind::WrongNetwork => BootEventType::WrongNetwork,
        EventKind::BootsOnManagement { .. } => BootEventType::BootsOnManagement,
        EventKind::UnknownRelay { .. } => BootEventType::UnknownRelay,
        EventKind::UnknownArchitecture { .. } => BootEventType::UnknownArchitecture,
        EventKind::TftpStart => BootEventType::TftpStart,
        EventKind::TftpAgain => BootEventType::TftpAgain,
        EventKind::TftpDone { .. } => BootEventType::TftpDone,
        EventKind::TftpFailed { .. } => BootEventType::TftpFailed,
        EventKind::TftpRefused => BootEventType::TftpRefused,
        EventKind::TftpFull => BootEventType::TftpFull,
        EventKind::TftpScript => BootEventType::TftpScript,
        EventKind::HttpScript => BootEventType::HttpScript,
        EventKind::HttpScriptRefused => BootEventType::HttpScriptRefused,
        EventKind::HttpFirmware { .. } => BootEventType::HttpFirmware,
        EventKind::HttpArtifact { .. } => BootEventType::HttpArtifact,
        EventKind::HttpAsked { .. } => BootEventType::HttpAsked,
        EventKind::HttpFull => BootEventType::HttpFull,
        EventKind::HttpFailed { .. } => BootEventType::HttpFailed,
        EventKind::TlsFailed => BootEventType::TlsFailed,
        EventKind::IscsiLogin => BootEventType::IscsiLogin,
        EventKind::IscsiLogout => BootEventType::IscsiLogout,
        EventKind::IscsiRefused => BootEventType::IscsiRefused,
        EventKind::AgentRegistered => BootEventType::AgentRegistered,
        EventKind::AgentRefused => BootEventType::AgentRefused,
        EventKind::Malformed { .. } => BootEventType::MalformedPacket,
        EventKind::Flood => BootEventType::Flood,
        EventKind::SegmentUp => BootEventType::SegmentUp,
        EventKind::SegmentDown => BootEventType::SegmentDown,
        // The field of a message that netboot has no word for.
        EventKind::Dhcp6(_) => BootEventType::Unspecified,
    }
}

/// `dhcp_discover`, as the API's enum has it.
pub(crate) fn boot_event_word(kind: &EventKind) -> String {
    let name = boot_event_type(kind).as_str_name();
    name.strip_prefix("BOOT_EVENT_TYPE_").unwrap_or(name).to_ascii_lowercase()
}
