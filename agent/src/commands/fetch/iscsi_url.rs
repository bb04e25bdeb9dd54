//! Where an iSCSI disk is, as rackd tells it.

use farrier_iscsi::initiator::Login;
use farrier_iscsi::{Credentials, Secret};

/// `iscsi://[user%secret@]host:port/target/lun?initiator=name`, the syntax of libiscsi with our name behind it.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) login: Login,
    pub(super) lun: u16,
}

/// `None`: a part is missing. `isid` names the session (RFC 7143 section 11.12.5).
pub(super) fn parse(url: &str, isid: [u8; 3]) -> Option<Address> {
    let rest = url.strip_prefix("iscsi://")?;
    let (rest, initiator) = rest.split_once("?initiator=")?;
    let (authority, path) = rest.split_once('/')?;
    let (target, lun) = path.split_once('/')?;
    let (chap, host) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((proof, host)) => {
            let (user, secret) = proof.split_once('%')?;
            (Some(Credentials { user: user.to_owned(), secret: Secret::new(secret.as_bytes()) }), host)
        }
    };
    let login = Login { initiator: initiator.to_owned(), target: target.to_owned(), chap, isid };
    Some(Address { host: host.to_owned(), login, lun: lun.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_all_its_parts_or_is_none() {
        let address =
            parse("iscsi://n1%s3cret@10.0.0.1:3260/iqn.2026-01.dev.farrier:x/0?initiator=iqn.i", [7; 3])
                .unwrap();
        assert_eq!((address.host.as_str(), address.lun), ("10.0.0.1:3260", 0));
        assert_eq!(address.login.target, "iqn.2026-01.dev.farrier:x");
        assert_eq!(address.login.initiator, "iqn.i");
        assert_eq!(address.login.chap.unwrap().user, "n1");
        for bad in [
            "http://10.0.0.1/t/0?initiator=i",
            "iscsi://10.0.0.1:3260/t?initiator=i",
            "iscsi://10.0.0.1:3260/t/0",
            "iscsi://user@10.0.0.1:3260/t/0?initiator=i",
            "iscsi://10.0.0.1:3260/t/x?initiator=i",
        ] {
            assert!(parse(bad, [7; 3]).is_none(), "{bad}");
        }
    }
}
