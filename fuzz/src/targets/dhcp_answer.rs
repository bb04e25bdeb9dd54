//! A DHCP server's answer to somebody, as it is looked at to find servers that are not ours.

pub fn run(data: &[u8]) {
    // A server's header before the input, too, so that options are reached.
    let mut answer = vec![2, 1, 6, 0];
    answer.resize(236, 0);
    answer.extend([99, 130, 83, 99]);
    answer.extend(data);
    for bytes in [data, &answer] {
        if let Some(said) = farrier_netboot::dhcp::describe_answer(bytes) {
            assert!(said.bytes().all(|b| (0x20..0x7f).contains(&b)) && said.len() < 200, "{said}");
        }
    }
}
