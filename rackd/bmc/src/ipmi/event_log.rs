//! The System Event Log (IPMI 2.0 section 31).

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Duration;

use async_trait::async_trait;
use farrier_ipmi::command::sel::{FIRST, GetSelRecord, LAST, SelRecord, SelTime};
use farrier_ipmi::completion::{
    CompletionCode, ERASE_IN_PROGRESS, INVALID_COMMAND, NOT_PRESENT, RESERVATION_INVALID,
};
use ipmi_rs_core::storage::sel::{ClearSel, ErasureProgress, GetSelInfo, ReserveSel, SelCommand, SelInfo};

use super::driver::IpmiBmc;
use super::link::Link;
use crate::actor::Call;
use crate::coalesce::{Joined, Turn};
use crate::{BmcError, BmcEvent, BmcEvents, Deadline, EventLog};

/// Records of one call: between two, others have their turn. A slow BMC takes seconds for an answer, and a
/// power command waits for a whole call.
const BATCH: usize = 4;
/// Records that may come while we read, beyond those that the BMC counted. Also ends a chain that goes in a circle.
const SLACK: u64 = 256;
/// Between two questions whether the log is erased.
const ERASING: Duration = Duration::from_millis(200);
/// Erases that are asked for, where records come in between and cancel the reservation.
const TRIES: u32 = 4;

/// What one call brought.
struct Batch {
    records: Vec<SelRecord>,
    next: u16,
}

#[async_trait]
impl EventLog for IpmiBmc {
    async fn event_log(&self, log: &str, last: usize, deadline: Deadline) -> Result<BmcEvents, BmcError> {
        self.only_sel(log)?;
        self.kept.reads.log(SEL, last).ask_in_parts(deadline, |turn| self.sel(last, turn, deadline)).await
    }

    async fn clear_event_log(&self, log: &str, deadline: Deadline) -> Result<(), BmcError> {
        self.only_sel(log)?;
        self.call(deadline, |link, call| Box::pin(link.clear_sel(call))).await
    }
}

impl IpmiBmc {
    async fn sel(
        &self,
        last: usize,
        turn: Turn<BmcEvents>,
        deadline: Deadline,
    ) -> Result<(Joined<BmcEvents>, BmcEvents), BmcError> {
        let first = self.call(deadline, |link, call| {
            Box::pin(async move {
                let joined = turn.begin();
                Ok((joined, link.command(call, GetSelInfo).await?))
            })
        });
        let (joined, info) = first.await?;
        let entries = info.entries;
        let mut next = match entries {
            0 => LAST,
            _ => self.call(deadline, move |link, call| Box::pin(link.sel_begin(call, entries, last))).await?,
        };
        // Where it begins with the newest that are wanted, those before them are not seen.
        let before = if next == FIRST { 0 } else { u64::from(entries).saturating_sub(last as u64) };
        let (mut newest, mut warnings) = (VecDeque::new(), Vec::new());
        let (mut seen, most) = (before, u64::from(entries) + SLACK);
        while next != LAST && seen < most {
            let batch = self.call(deadline, move |link, call| Box::pin(link.sel_batch(call, next))).await;
            let batch = match batch {
                // What is there is better than nothing: a log of thousands outlasts anybody who waits.
                Err(error) if (deadline.is_past() || error.is_transient()) && !newest.is_empty() => {
                    warnings.push(format!("the records behind these {seen} are not read: {error}"));
                    break;
                }
                batch => batch?,
            };
            // A record that is its own successor would keep us here.
            next = if batch.next == next { LAST } else { batch.next };
            for record in batch.records {
                seen += 1;
                newest.push_back(event(record));
                if newest.len() > last {
                    newest.pop_front();
                }
            }
        }
        // That there are more was said by the log itself.
        let total = if warnings.is_empty() { seen } else { seen.max(entries.into()) };
        let (log, logs) = (SEL.to_owned(), vec![SEL.to_owned()]);
        let (events, overflow) = (newest.into(), info.overflow);
        Ok((joined, BmcEvents { events, total, overflow, log, logs, warnings }))
    }

    /// There is no other.
    fn only_sel(&self, log: &str) -> Result<(), BmcError> {
        if log.is_empty() || log.eq_ignore_ascii_case(SEL) {
            return Ok(());
        }
        let (wanted, offered) = (log.to_owned(), vec![SEL.to_owned()]);
        Err(BmcError::NotListed { addr: self.addr, what: "log", wanted, offered })
    }
}

const SEL: &str = "SEL";

impl Link {
    /// Some records from `next` on.
    async fn sel_batch(&mut self, call: &mut Call, mut next: u16) -> Result<Batch, BmcError> {
        let mut records = Vec::with_capacity(BATCH);
        while next != LAST && records.len() < BATCH {
            match self.command(call, GetSelRecord(next)).await {
                Ok(reply) => {
                    records.push(SelRecord::read(&reply.record));
                    next = reply.next;
                }
                // Erased while we read: that is its end.
                Err(BmcError::Refused { code: CompletionCode(NOT_PRESENT), .. }) => next = LAST,
                // The next call says why.
                Err(_) if call.deadline.is_past() && !records.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Batch { records, next })
    }

    /// The record with which the newest `last` begin. Each names the one behind it and none before it; where all are numbered evenly,
    /// as on most BMCs, the number of each is known. Else the first of all.
    async fn sel_begin(&mut self, call: &mut Call, entries: u16, last: usize) -> Result<u16, BmcError> {
        if last.saturating_add(BATCH) >= usize::from(entries) {
            return Ok(FIRST);
        }
        let mut ids = [FIRST, LAST];
        for id in &mut ids {
            match self.sel_id(call, *id).await? {
                Some(seen) => *id = seen,
                None => return Ok(FIRST),
            }
        }
        let Some(id) = at_even_steps(ids, entries, last) else { return Ok(FIRST) };
        Ok(if self.sel_id(call, id).await? == Some(id) { id } else { FIRST })
    }

    /// `None`: there is no such record, or nobody says.
    async fn sel_id(&mut self, call: &mut Call, record: u16) -> Result<Option<u16>, BmcError> {
        match self.command(call, GetSelRecord(record)).await {
            Ok(reply) => Ok(Some(SelRecord::read(&reply.record).id)),
            Err(BmcError::Refused { code, .. }) if !code.is_transient() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn clear_sel(&mut self, call: &mut Call) -> Result<(), BmcError> {
        let before = match self.command(call, GetSelInfo).await {
            Ok(info) => Some(info),
            // It may be cleared all the same.
            Err(BmcError::Refused { code, .. }) if !code.is_transient() => None,
            Err(BmcError::Malformed { .. }) => None,
            Err(error) => return Err(error),
        };
        let mut reservation = self.reserve_sel(call, before.as_ref()).await?;
        let mut tries = 1;
        let mut progress = loop {
            match self.command(call, ClearSel::initiate(reservation)).await {
                // A record came in between (§31.4).
                Err(error) if is_cancelled(&error) && tries < TRIES => {
                    tries += 1;
                    reservation = self.reserve_sel(call, before.as_ref()).await?;
                }
                asked => break asked?,
            }
        };
        // The call's deadline ends this.
        while progress == ErasureProgress::InProgress {
            tokio::time::sleep(ERASING).await;
            progress = match self.command(call, ClearSel::get_status(reservation)).await {
                // The erase itself cancels the reservation on some, and each record that comes meanwhile on all.
                Err(error) if is_cancelled(&error) => match self.reserve_sel(call, before.as_ref()).await {
                    Err(error) if is_erasing(&error) => ErasureProgress::InProgress,
                    reserved => {
                        reservation = reserved?;
                        match self.is_erased(call, before.as_ref()).await {
                            Err(error) if is_erasing(&error) => ErasureProgress::InProgress,
                            erased => erased?,
                        }
                    }
                },
                Err(error) if is_erasing(&error) => ErasureProgress::InProgress,
                asked => asked?,
            };
        }
        Ok(())
    }

    /// `None`: this BMC has no reservations, and wants none (§31.4, §31.9).
    async fn reserve_sel(
        &mut self,
        call: &mut Call,
        info: Option<&SelInfo>,
    ) -> Result<Option<NonZeroU16>, BmcError> {
        let has_none = info.is_some_and(|info| !info.supported_cmds.contains(&SelCommand::Reserve));
        match self.command(call, ReserveSel).await {
            Ok(reservation) => Ok(Some(reservation)),
            Err(BmcError::Refused { code: CompletionCode(INVALID_COMMAND), .. }) => Ok(None),
            Err(BmcError::Refused { code, .. }) if has_none && !code.is_transient() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// By what the log says of itself, where nothing else can be asked: it is empty, or was erased since and has less.
    async fn is_erased(
        &mut self,
        call: &mut Call,
        before: Option<&SelInfo>,
    ) -> Result<ErasureProgress, BmcError> {
        let now = self.command(call, GetSelInfo).await?;
        let is_other = before
            .is_some_and(|before| now.last_del_time != before.last_del_time && now.entries < before.entries);
        let is_erased = now.entries == 0 || is_other;
        Ok(if is_erased { ErasureProgress::Completed } else { ErasureProgress::InProgress })
    }
}

/// The record with which the newest `wanted` of `entries` begin, whose first and last have these numbers; `None`: they are not
/// numbered in even steps.
fn at_even_steps([first, last]: [u16; 2], entries: u16, wanted: usize) -> Option<u16> {
    let (steps, apart) = (entries.checked_sub(1)?, last.checked_sub(first)?);
    let step = apart.checked_div(steps).filter(|step| *step > 0 && step * steps == apart)?;
    let back = u16::try_from(wanted.checked_sub(1)?).ok()?.checked_mul(step)?;
    last.checked_sub(back).filter(|id| *id >= first)
}

/// IPMI 2.0 tables 31-2 and 31-4: the log is being erased, and nothing else is said of it.
fn is_erasing(error: &BmcError) -> bool {
    matches!(error, BmcError::Refused { code: CompletionCode(ERASE_IN_PROGRESS), .. })
}

/// The reservation counts no longer.
fn is_cancelled(error: &BmcError) -> bool {
    matches!(error, BmcError::Refused { code: CompletionCode(RESERVATION_INVALID), .. })
}

fn event(record: SelRecord) -> BmcEvent {
    let SelRecord { id, time, sensor, event, asserted } = record;
    let (time, message) = match time {
        SelTime::Unix(seconds) => (Some(i64::from(seconds)), event),
        SelTime::SinceStart(seconds) => (None, format!("{event}, {seconds} s after the BMC started")),
        SelTime::Unspecified => (None, event),
    };
    BmcEvent { id: id.to_string(), time, sensor, message, asserted }
}

#[cfg(test)]
mod tests {
    use super::at_even_steps;

    #[test]
    fn a_record_is_found_by_its_number_where_all_are_numbered_evenly() {
        for (ends, entries, wanted, found) in [
            ([1, 3000], 3000, 10, Some(2991)),
            ([1, 3000], 3000, 1, Some(3000)),
            // Numbered by where they lie.
            ([16, 16 * 500], 500, 2, Some(16 * 499)),
            // Some were erased, or it has wrapped.
            ([1, 3000], 2999, 10, None),
            ([2990, 7], 500, 10, None),
            ([5, 5], 1, 1, None),
            ([5, 5], 7, 1, None),
            ([1, 10], 10, 11, None),
            ([1, 10], 10, 0, None),
        ] {
            assert_eq!(at_even_steps(ends, entries, wanted), found, "{ends:?} {entries} {wanted}");
        }
    }
}
