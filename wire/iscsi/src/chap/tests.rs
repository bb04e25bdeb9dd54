use super::*;

fn chap(mutual: bool) -> Chap {
    Chap {
        initiator: Credentials { user: "node".into(), secret: Secret::new(*b"a secret of 16 b") },
        target: mutual
            .then(|| Credentials { user: "rack".into(), secret: Secret::new(*b"the other secret") }),
    }
}

#[test]
fn the_hash_is_that_of_rfc_1994() {
    // `printf '\x01secretABCD' | md5sum` and so on.
    let secret = Secret::new(*b"secret");
    assert_eq!(
        to_hex(&Algorithm::Md5.response(1, &secret, b"ABCD")),
        format!("0x{}", hex_of(&Md5::digest(b"\x01secretABCD")))
    );
    assert_eq!(Algorithm::Sha1.response(1, &secret, b"ABCD").len(), 20);
    assert_eq!(Algorithm::Sha256.response(1, &secret, b"ABCD").len(), 32);
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_right_answer_passes_and_every_other_is_refused() {
    let challenge = Challenge::new(Algorithm::Sha256, &[7; 17]);
    let right = to_hex(&challenge.algorithm.response(7, &chap(false).initiator.secret, &challenge.challenge));
    for (name, response, expected) in [
        ("node", right.as_str(), Ok(())),
        ("edon", right.as_str(), Err(ChapError::Wrong)),
        ("node", "0x00", Err(ChapError::Wrong)),
        ("node", "zz", Err(ChapError::Malformed("CHAP_R"))),
        ("node", "0x", Err(ChapError::Malformed("CHAP_R"))),
    ] {
        let request = Pairs(vec![("CHAP_N".into(), name.into()), ("CHAP_R".into(), response.into())]);
        assert_eq!(
            challenge.judge(&chap(false), &request, &mut Pairs::default()),
            expected,
            "{name} {response}"
        );
    }
}

#[test]
fn the_target_proves_itself_but_never_answers_its_own_challenge() {
    let challenge = Challenge::new(Algorithm::Md5, &[9; 17]);
    let right = to_hex(&challenge.algorithm.response(9, &chap(true).initiator.secret, &challenge.challenge));
    let ask = |theirs: &[u8]| {
        let mut request = Pairs::default();
        request.push("CHAP_N", "node");
        request.push("CHAP_R", right.clone());
        request.push("CHAP_I", "3");
        request.push("CHAP_C", to_hex(theirs));
        request
    };
    let mut answer = Pairs::default();
    assert_eq!(challenge.judge(&chap(true), &ask(b"their challenge"), &mut answer), Ok(()));
    let proof = Algorithm::Md5.response(3, &Secret::new(*b"the other secret"), b"their challenge");
    assert_eq!(answer.value("CHAP_R"), Some(to_hex(&proof).as_str()));
    let reflected = challenge.judge(&chap(true), &ask(&[9; 16]), &mut Pairs::default());
    assert_eq!(reflected, Err(ChapError::Reflected));
    let one_way = challenge.judge(&chap(false), &ask(b"their challenge"), &mut Pairs::default());
    assert_eq!(one_way, Err(ChapError::NotMutual));
}
