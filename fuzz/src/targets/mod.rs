//! One module a target, and how many mutations of its seeds the tests try: what takes long gets fewer.

/// Gives every target, and its mutations, to another macro.
#[macro_export]
macro_rules! for_each_target {
    ($then:ident) => {
        $then! {
            agent_disk: 1_000,
            agent_fetch: 20_000,
            agent_messages: 20_000,
            api_text: 5_000,
            boot_script: 5_000,
            boot_trace: 20_000,
            csr: 5_000,
            dhcp: 3_000,
            dhcp6: 20_000,
            dhcp_answer: 50_000,
            foreign6: 50_000,
            http_head: 50_000,
            http_range: 100_000,
            image_import: 1_000,
            ipmi_answers: 100_000,
            ipmi_client: 3_000,
            ipmi_console: 100,
            ipmi_datagram: 50_000,
            ipmi_fru: 40_000,
            ipmi_network: 200,
            ipmi_sdr: 100_000,
            ipmi_sel: 100_000,
            ipmi_server: 3_000,
            ipmi_sol: 40_000,
            iscsi_initiator: 20_000,
            iscsi_negotiation: 50_000,
            iscsi_pdu: 200_000,
            iscsi_target: 10_000,
            lease_file: 1_000,
            lldp: 50_000,
            rackd_config: 5_000,
            redfish_client: 200,
            redfish_settings: 1_000,
            seamicro_client: 200,
            snapshot: 3_000,
            ssh_console: 20_000,
            tftp: 50_000,
        }
    };
}

macro_rules! modules {
    ($($name:ident: $mutations:expr),* $(,)?) => { $(pub mod $name;)* };
}

for_each_target!(modules);
