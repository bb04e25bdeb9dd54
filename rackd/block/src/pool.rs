//! Memory for answers, shared by the connections of a thread: with many sessions each answer is built where
//! the one before it was, which is warm in the processor's cache, and a quiet session holds nothing.

use std::cell::RefCell;

use farrier_iscsi::Output;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Gives `output` memory, if it has none.
pub(crate) fn lend(output: &mut Output) {
    output.lend(|| BUFFERS.with_borrow_mut(Vec::pop));
}

/// Takes the memory of `output` back, if all of it was sent.
pub(crate) fn give_back(output: &mut Output) {
    let Some(buffer) = output.take_idle() else { return };
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < KEPT && buffer.len() <= LARGEST {
            buffers.push(buffer);
        }
    });
}

/// Buffers a thread keeps: more are in use only while initiators do not take their answers.
const KEPT: usize = 8;
/// The answer to the largest read, and some.
const LARGEST: usize = 8 << 20;
