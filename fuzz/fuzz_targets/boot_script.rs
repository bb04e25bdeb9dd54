//! Kernel arguments, on both ends, and the iPXE script they are written into.
#![no_main]
#![allow(dead_code, unreachable_pub, unused_imports, clippy::all)]

#[path = "../../rackd/netboot/src/args.rs"]
mod args;
#[path = "../../rackd/netboot/src/mac.rs"]
mod mac;
#[path = "../../rackd/netboot/src/script.rs"]
mod script;
#[path = "../../rackd/netboot/src/table.rs"]
mod table;

use args::KernelArgs;
use libfuzzer_sys::fuzz_target;
use mac::MacAddr;
use table::{ArtifactName, Boot};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = farrier_agent::args::KernelArgs::parse(text);
    if let Ok(mac) = text.parse::<MacAddr>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    let (name, line) = text.split_once('\n').unwrap_or(("ramdisk", text));
    let Ok(args) = KernelArgs::parse(line) else { return };
    let tokens: Vec<String> = args.tokens().map(str::to_owned).collect();
    let Ok(kernel) = name.parse::<ArtifactName>() else { return };
    assert!(!kernel.to_string().contains(['/', ' ', '\\']) && !kernel.to_string().starts_with('.'));
    let boot = Boot::Script { kernel, initrd: "initrd".parse().unwrap(), args };
    let text = script::render(&boot, "10.1.0.1:8080".parse().unwrap()).expect("a script");
    // Whatever the arguments were, the script has the lines we wrote and the arguments on one of them.
    let plain = Boot::Script { kernel: "k".parse().unwrap(), initrd: "initrd".parse().unwrap(), args: KernelArgs::new() };
    let plain = script::render(&plain, "10.1.0.1:8080".parse().unwrap()).expect("a script");
    assert_eq!(text.lines().count(), plain.lines().count());
    for (line, was) in text.lines().zip(plain.lines()) {
        if line.starts_with("kernel ") {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words.len(), was.split(' ').count() + tokens.len());
            assert!(line.ends_with(" || goto failed") && line.matches("||").count() == 1 && !line.contains('$'));
        } else {
            assert_eq!(line, was);
        }
    }
});
