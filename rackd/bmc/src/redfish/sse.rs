//! Server-sent events (HTML Living Standard §9.2.6, as DSP0266 §12.5 has it), and the events in them (DSP0268 Event). Pure and
//! bounded: bytes in, events out.

use super::document::Document;
use crate::BmcNotice;

/// Longest line, and all of one event. Those of BMCs have some KiB.
const MAX_EVENT: usize = 256 * 1024;
/// Events of one message that are told.
const MOST: usize = 64;

/// What has come of a stream.
#[derive(Debug, Default)]
pub(super) struct Sse {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The last byte ended a line by CR: an LF now belongs to it.
    after_cr: bool,
}

/// An event without end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Sse {
    /// Takes bytes, and gives the data of the events that are whole by them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut whole = Vec::new();
        for byte in bytes {
            let belongs = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if belongs => {}
                b'\n' | b'\r' => whole.extend(self.end_line()?),
                _ if self.line.len() >= MAX_EVENT => return Err(TooLong),
                byte => self.line.push(*byte),
            }
        }
        Ok(whole)
    }

    /// A line is whole. An empty one ends an event.
    fn end_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return Ok(data.strip_suffix(b"\n").map(<[u8]>::to_vec));
        }
        // Lines that begin with a colon are comments; ids and retry times are nobody's here.
        let Some(value) = line.strip_prefix(b"data") else { return Ok(None) };
        let value = match value.strip_prefix(b":") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            None if value.is_empty() => value,
            None => return Ok(None),
        };
        if self.data.len() + value.len() >= MAX_EVENT {
            return Err(TooLong);
        }
        self.data.extend_from_slice(value);
        self.data.push(b'\n');
        Ok(None)
    }
}

/// The events of one message. Reports of metrics and what is no JSON have none.
pub(super) fn notices(data: &[u8]) -> Vec<BmcNotice> {
    let message = Document::parse(data, None).unwrap_or_default();
    let notice = |event: &Document| BmcNotice {
        message_id: event.text("MessageId").unwrap_or_default(),
        message: event.text("Message").unwrap_or_default(),
    };
    message.parts("Events", MOST).iter().map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&str]) -> Vec<String> {
        let mut sse = Sse::default();
        let whole = pieces.iter().flat_map(|piece| sse.take(piece.as_bytes()).unwrap());
        whole.map(|data| String::from_utf8(data).unwrap()).collect()
    }

    /// The examples of the standard, §9.2.6.
    #[test]
    fn events_are_read_as_the_standard_says() {
        assert_eq!(all(&["data: YHOO\ndata: +2\ndata: 10\n\n"]), ["YHOO\n+2\n10"]);
        assert_eq!(
            all(&[
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n"
            ]),
            ["first event", "second event"]
        );
        assert_eq!(all(&["data\n\ndata\ndata\n\ndata:"]), ["", "\n"]);
        assert_eq!(all(&["data:test\n\ndata: test\n\n"]), ["test", "test"]);
        assert_eq!(all(&["database: x\nevent: data\n\n"]), Vec::<String>::new());
    }

    #[test]
    fn lines_end_in_three_ways_wherever_the_pieces_are_cut() {
        for text in ["data: a\r\ndata: b\r\n\r\n", "data: a\rdata: b\r\r", "data: a\ndata: b\n\n"] {
            let cut: Vec<_> = text.split("").collect();
            assert_eq!(all(&cut), ["a\nb"], "{text:?}");
            assert_eq!(all(&[text, text]), ["a\nb", "a\nb"], "{text:?}");
        }
    }

    #[test]
    fn an_event_without_end_ends() {
        let mut sse = Sse::default();
        assert_eq!(sse.take(&vec![b'x'; MAX_EVENT + 1]), Err(TooLong));
        let mut sse = Sse::default();
        let line = format!("data: {}\n", "x".repeat(1024));
        let ended = (0..1024).any(|_| sse.take(line.as_bytes()) == Err(TooLong));
        assert!(ended);
    }

    #[test]
    fn a_message_has_events_or_none() {
        let message = br##"{"@odata.type": "#Event.v1_7_0.Event", "Events": [
            {"MessageId": "ResourceEvent.1.3.ResourcePoweredOff", "Message": "off"}, 7, {"Message": 7}]}"##;
        let told = notices(message);
        assert_eq!((told.len(), told[0].message_id.as_str()), (2, "ResourceEvent.1.3.ResourcePoweredOff"));
        assert_eq!(told[1], BmcNotice::default());
        assert_eq!(notices(br#"{"MetricValues": []}"#), []);
        assert_eq!(notices(b"hello"), []);
    }
}
