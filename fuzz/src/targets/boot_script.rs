//! Kernel arguments, on both ends, and the scripts of iPXE and GRUB they are written into.

use crate::args::KernelArgs;
use crate::mac::MacAddr;
use crate::ramdisk::{Ramdisk, Ramdisks};
use crate::san::{ChapWord, IscsiName, San};
use crate::table::{ArtifactName, Boot};
use crate::{grub, script};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = farrier_agent::args::KernelArgs::parse(text);
    if let Ok(mac) = text.parse::<MacAddr>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    san_script(text);
    let (name, line) = text.split_once('\n').unwrap_or(("ramdisk", text));
    let Ok(args) = KernelArgs::parse(line) else { return };
    let tokens: Vec<String> = args.tokens().map(str::to_owned).collect();
    let Ok(kernel) = name.parse::<ArtifactName>() else { return };
    assert!(!kernel.to_string().contains(['/', ' ', '\\']) && !kernel.to_string().starts_with('.'));
    let plain =
        Ramdisk { kernel: "k".parse().unwrap(), initrd: "initrd".parse().unwrap(), args: KernelArgs::new() };
    let ramdisk = Ramdisk { kernel, args, ..plain.clone() };
    for (arm64, plain_arm64) in [(None, None), (Some(ramdisk.clone()), Some(plain.clone()))] {
        let ramdisks = Ramdisks::new(ramdisk.clone(), arm64);
        let plain = Ramdisks::new(plain.clone(), plain_arm64);
        grub_script(ramdisks.clone(), plain.clone(), &tokens);
        ipxe_script(ramdisks, plain, &tokens);
    }
}

/// Whatever the arguments were, the script has the lines we wrote and the arguments on those that were meant for them.
fn ipxe_script(ramdisks: Ramdisks, plain: Ramdisks, tokens: &[String]) {
    let render = |ramdisks| {
        script::render(&Boot::Script(ramdisks), MAC, "10.1.0.1:8080".parse().unwrap()).expect("a script")
    };
    let (text, plain) = (render(ramdisks), render(plain));
    assert_eq!(text.lines().count(), plain.lines().count());
    for (line, was) in text.lines().zip(plain.lines()) {
        if line.starts_with("kernel ") {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words.len(), was.split(' ').count() + tokens.len());
            assert!(
                line.ends_with(" || goto failed") && line.matches("||").count() == 1 && !line.contains('$')
            );
        } else {
            assert_eq!(line, was);
        }
    }
}

/// Each argument is a word in quotes on a line that was meant for it.
fn grub_script(ramdisks: Ramdisks, plain: Ramdisks, tokens: &[String]) {
    let render =
        |ramdisks| grub::render(&Boot::Signed(ramdisks), "10.1.0.1".parse().unwrap()).expect("a script");
    let (text, plain) = (render(ramdisks), render(plain));
    assert_eq!(text.lines().count(), plain.lines().count());
    for (line, was) in text.lines().zip(plain.lines()) {
        if let Some(rest) = line.strip_prefix("if linux ") {
            let words: Vec<&str> = rest.strip_suffix("; then").expect("its end").split(' ').skip(1).collect();
            assert!(words.iter().all(|word| word.len() > 2 && word.matches('\'').count() == 2));
            assert_eq!(words.iter().map(|word| word.trim_matches('\'')).collect::<Vec<_>>(), tokens);
        } else {
            assert_eq!(line, was);
        }
    }
}

/// Names and words of any content that is let through leave the script's lines as they are.
fn san_script(text: &str) {
    let (name, word) = text.split_once('\n').unwrap_or(("iqn.a", text));
    let (Ok(target), Ok(secret)) = (name.parse::<IscsiName>(), word.parse::<ChapWord>()) else { return };
    let san = |target: IscsiName, secret: ChapWord| {
        Boot::San(San {
            portal: "10.1.0.1:3260".parse().unwrap(),
            initiator: target.clone(),
            target,
            lun: 0,
            user: secret.clone(),
            secret,
        })
    };
    let server = "10.1.0.1:8080".parse().unwrap();
    let text = script::render(&san(target, secret), MAC, server).expect("a script");
    let plain = san("iqn.a".parse().unwrap(), "a".parse().unwrap());
    let plain = script::render(&plain, MAC, server).expect("a script");
    let words = |text: &str| text.lines().map(|line| line.split(' ').count()).collect::<Vec<_>>();
    assert_eq!(words(&text), words(&plain));
    assert_eq!(text.matches(['$', '|']).count(), plain.matches(['$', '|']).count());
}

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
