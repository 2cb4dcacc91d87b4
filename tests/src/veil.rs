//! Values of secrets in text: gone, in whatever form and in whatever pieces they come.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use drivers::{Log, Secrets, Veil};
use planner::identity::{Sha, Trust};
use planner::secrets::SecretClass;
use planner::spec::Origin;
use proptest::prelude::*;

/// The text as it comes out in pieces of these lengths.
fn in_pieces(veil: &Veil, text: &str, lengths: &[usize]) -> String {
    let (mut stream, mut out, mut rest) = (veil.stream(), String::new(), text);
    let mut lengths = lengths.iter().copied().cycle();
    while !rest.is_empty() {
        let mut at = lengths.next().unwrap_or(1).clamp(1, rest.len());
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let (piece, left) = rest.split_at(at);
        out += &stream.push(piece);
        rest = left;
    }
    out + &stream.rest()
}

proptest! {
    #[test]
    fn pieces_hide_what_the_whole_hides(
        values in prop::collection::vec("[ab]{4,9}|[a-zä]{4,30}", 1..5),
        words in prop::collection::vec("[ab]{0,12}|[a-zä ]{0,8}", 0..12),
        lengths in prop::collection::vec(1_usize..7, 1..6),
    ) {
        let veil = Veil::over(values.iter().map(String::as_str));
        let text: String = words.iter().zip(values.iter().cycle()).map(|(word, value)| format!("{word}{value}")).collect();
        let whole = veil.hide(&text).into_owned();
        prop_assert_eq!(&in_pieces(&veil, &text, &lengths), &whole);
        for value in values {
            prop_assert!(!whole.contains(&value), "{} is in {}", value, whole);
        }
    }

    #[test]
    fn encoded_values_are_hidden(value in "[ -~äß]{6,60}", before in "[a-z:]{0,5}", after in "[a-z]{0,5}") {
        let veil = Veil::over([value.as_str()]);
        // What stands around a value does not count as one.
        let value = value.trim();
        prop_assume!(value.len() >= 6);
        let whole = format!("{before}{value}{after}");
        for encoding in [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD] {
            let hidden = veil.hide(&encoding.encode(whole.as_bytes())).into_owned();
            prop_assert!(hidden.contains("***"), "{}", hidden);
            // A digit of base64 at either end is shared with what is beside the value.
            let shown = hidden.len() - 3;
            let around = (before.len() + after.len()) * 4 / 3 + 8;
            prop_assert!(shown <= around, "{} shows {} of {}", hidden, shown, whole);
        }
        let encoded: String = form(value);
        for text in [&encoded, &encoded.to_lowercase_escapes(), &encoded.replace("%20", "+")] {
            prop_assert_eq!(veil.hide(text).into_owned(), "***");
        }
        let quoted = serde_json::to_string(&whole).unwrap();
        prop_assert!(veil.hide(&quoted).contains("***"), "{}", quoted);
    }
}

/// As `encodeURIComponent` has it but for five signs.
fn form(value: &str) -> String {
    let kept = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    value.bytes().map(|byte| if kept(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

trait LowerEscapes {
    fn to_lowercase_escapes(&self) -> String;
}

impl LowerEscapes for String {
    fn to_lowercase_escapes(&self) -> String {
        let parts: Vec<String> = self
            .split('%')
            .enumerate()
            .map(|(at, part)| if at == 0 { part.to_owned() } else { part[..2].to_lowercase() + &part[2..] })
            .collect();
        parts.join("%")
    }
}

#[test]
fn keys_are_hidden_line_by_line_and_as_wrapped_base64() {
    let body: Vec<String> = (0..30).map(|line| BASE64.encode(&[line; 48])).collect();
    let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", body.join("\n"));
    let veil = Veil::over([key.as_str()]);
    let prefixed: String = key.lines().map(|line| format!("web | {line}\r\n")).collect();
    assert!(body.iter().all(|line| !veil.hide(&prefixed).contains(line.as_str())));
    for width in [64, 76, usize::MAX] {
        let encoded = BASE64.encode(key.as_bytes());
        let wrapped: Vec<&str> =
            encoded.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let hidden = veil.hide(&wrapped.join("\n")).into_owned();
        assert!(wrapped[..wrapped.len() - 1].iter().all(|line| !hidden.contains(line)), "{width}");
        assert!(hidden.len() < encoded.len() / 4, "{hidden}");
    }
}

#[test]
fn nothing_is_held_back_of_a_line_that_holds_no_secret() {
    let veil = Veil::over(["hunter2", "listening"]);
    let mut stream = veil.stream();
    assert_eq!(stream.push("listening on 8080\n"), "*** on 8080\n");
    assert_eq!(stream.push("a line that ends with hunt\n"), "a line that ends with hunt\n");
    assert_eq!(stream.push("progress 10%"), "progress 10%");
}

#[test]
fn code_from_outside_learns_nothing_of_trusted_values() {
    let (secrets, project) = (Secrets::default(), "shop".parse().unwrap());
    let values = |value: &str| [("TOKEN".to_owned(), value.to_owned())].into();
    secrets.set(&project, SecretClass::Trusted, values("trusted-value"));
    secrets.set(&project, SecretClass::Foreign, values("a-dummy"));
    let of = |trust| Origin { project: project.clone(), sha: Sha::from_bytes([1; 20]), trust };
    let guesses = "trusted-value a-dummy";
    assert_eq!(
        secrets.veil(&of(Trust::Approved)).hide(guesses),
        "trusted-value ***",
        "or it could guess until it sees ***"
    );
    assert_eq!(secrets.veil(&of(Trust::Trusted)).hide(guesses), "*** a-dummy");
    // What runs may still print the former value.
    secrets.set(&project, SecretClass::Trusted, values("another-value"));
    assert_eq!(secrets.veil(&of(Trust::Trusted)).hide("trusted-value another-value"), "*** ***");
}

#[test]
fn a_log_is_written_without_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Log::create(&path).unwrap().behind(&Veil::over(["hunter22"]));
    log.write("it is hun");
    log.write("ter22, or hunt");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "it is ***, or ");
    log.end();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "it is ***, or hunt");
    log.write("; hunter2");
    drop(log);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "it is ***, or hunt; hunter2");
}
