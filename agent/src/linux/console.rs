//! Short lines on the console: for whoever watches a serial port at three in the morning.
use std::fmt::{self, Write as _};
use std::io::Write as _;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// Prints events of level INFO and above to standard output, which is the kernel's console for pid 1.
/// Spans are ignored: one machine, one story.
#[derive(Debug, Default)]
pub struct Console;

/// Makes it the process's log.
pub fn install() {
    // Fails only when there is one already.
    let _ = tracing::subscriber::set_global_default(Console);
}

impl Subscriber for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("farrier");
        *metadata.level() <= if ours { Level::INFO } else { Level::WARN }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mark = match *event.metadata().level() {
            Level::ERROR => "ERROR ",
            Level::WARN => "warning: ",
            _ => "",
        };
        say(&format!("{mark}{}{}", line.message, line.fields));
    }
}

/// One line, in one write, so that kernel messages do not land in its middle. A console that takes
/// nothing must not stop a deployment.
pub fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(format!("farrier: {text}\r\n").as_bytes());
    let _ = std::io::stdout().flush();
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }
}
