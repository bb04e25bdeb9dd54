//! The one message with everything a rack needs.

use farrier_proto::inventory::Dispatch;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Machine, MachinePort, TaskSpec};

/// Completes an operation's work with its machine.
pub(super) fn complete(mut work: TaskSpec, dispatch: Dispatch) -> TaskSpec {
    let bmc = dispatch.node.as_ref().and_then(|node| node.bmc.as_ref());
    if let Some(Work::Verify(verify)) = &mut work.work {
        // Inventory has made the next one where it was asked to verify. One that is made for another node with the same account
        // is that one's to give to the BMC.
        verify.replace_default_password = bmc.is_some_and(|bmc| bmc.default_password && bmc.rotation_pending)
            && !dispatch.bmc_next_password.is_empty();
    }
    work.machine = Some(machine(dispatch));
    work
}

/// The node as its rack needs to know it.
pub(crate) fn machine(dispatch: Dispatch) -> Machine {
    let node = dispatch.node.unwrap_or_default();
    let bmc = node.bmc.unwrap_or_default();
    Machine {
        name: node.name,
        uid: node.uid,
        bmc_driver: bmc.driver,
        bmc_address: bmc.address,
        bmc_user: bmc.user,
        bmc_password: dispatch.bmc_password,
        bmc_next_password: dispatch.bmc_next_password,
        bmc_next_user: bmc.next_user,
        bmc_kg: dispatch.bmc_kg,
        bmc_cipher_suite: bmc.cipher_suite,
        bmc_scheme: bmc.scheme,
        bmc_certificate_sha256: bmc.certificate_sha256,
        bmc_ca_pem: bmc.ca_pem,
        bmc_system: bmc.system,
        bmc_ssh_host_key_sha256: bmc.ssh_host_key_sha256,
        boot_mode: node.boot_mode,
        boot_interface: node.boot_interface,
        secure_boot: node.secure_boot,
        architecture: node.architecture,
        ports: dispatch
            .ports
            .into_iter()
            .map(|p| MachinePort {
                mac_address: p.mac_address,
                pxe_enabled: p.pxe_enabled,
                switch_name: p.switch_name,
                switch_port: p.switch_port,
            })
            .collect(),
        root_device: node.root_device,
        hardware: node.hardware,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::inventory::{Bmc, Node};
    use farrier_proto::rack::Verify;

    #[test]
    fn a_default_password_is_replaced_where_there_is_another() {
        let replaces = |default_password, rotation_pending, next: &str, work| {
            let bmc = Bmc { default_password, rotation_pending, ..Bmc::default() };
            let node = Node { bmc: Some(bmc), ..Node::default() };
            let dispatch =
                Dispatch { node: Some(node), bmc_next_password: next.into(), ..Dispatch::default() };
            complete(TaskSpec { work: Some(work), ..TaskSpec::default() }, dispatch).work
        };
        let verify = |replace_default_password| Work::Verify(Verify { replace_default_password });
        let cases = [
            (true, true, "x", true),
            (true, true, "", false),
            (false, true, "x", false),
            // Another node's rotation.
            (true, false, "x", false),
        ];
        for (is_default, rotates, next, expected) in cases {
            assert_eq!(replaces(is_default, rotates, next, verify(false)), Some(verify(expected)));
        }
    }

    #[test]
    fn the_rack_is_told_all_that_the_node_says_of_its_bmc() {
        let bmc = Bmc {
            driver: "redfish".into(),
            address: "bmc1:8443".into(),
            user: "admin".into(),
            cipher_suite: 17,
            scheme: "https".into(),
            certificate_sha256: "ab".into(),
            ca_pem: "pem".into(),
            system: "blade3".into(),
            ..Bmc::default()
        };
        let node =
            Node { bmc: Some(bmc), secure_boot: true, architecture: "aarch64".into(), ..Node::default() };
        let dispatch = Dispatch { node: Some(node), bmc_password: "tiger".into(), ..Dispatch::default() };
        let told = complete(TaskSpec::default(), dispatch).machine.unwrap();
        let expected = Machine {
            bmc_driver: "redfish".into(),
            bmc_address: "bmc1:8443".into(),
            bmc_user: "admin".into(),
            bmc_password: "tiger".into(),
            bmc_cipher_suite: 17,
            bmc_scheme: "https".into(),
            bmc_certificate_sha256: "ab".into(),
            bmc_ca_pem: "pem".into(),
            bmc_system: "blade3".into(),
            secure_boot: true,
            architecture: "aarch64".into(),
            ..Machine::default()
        };
        assert_eq!(told, expected);
    }
}
