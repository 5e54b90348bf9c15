//! How long `mmap_lock` was held and waited for: a histogram of each, for writing and for reading.

use maud::{Markup, html};
use report_page::histogram::{Axes, Buckets, Times, figure};

use crate::freeze::{Freeze, LockTimes};
use crate::report::tally::bucket_end_ns;

/// The figures; nothing if the source did not count.
pub(super) fn figures(freeze: &Freeze) -> Option<Markup> {
    let LockTimes { read_holds, write_holds, read_waits, write_waits } = freeze.lock.as_ref()?;
    let times = |write, read| Times { write: buckets(write), read: buckets(read) };
    let (held, waited) = (times(write_holds, read_holds), times(write_waits, read_waits));
    let axes = Axes::over([&held, &waited])?;
    Some(html! {
        p { "How many there were of each length, by everybody who took the lock of the target: "
            span.swatch.write {} " for writing, " span.swatch.read.hollow {} " for reading. "
            "Both axes are logarithmic." }
        div.grid {
            (figure("", "Held", "how long mmap_lock was held", &held, &axes))
            (figure("", "Waited for", "how long mmap_lock was waited for", &waited, &axes))
        }
    })
}

/// By upper bounds instead of by powers of two.
fn buckets(counts: &[u64]) -> Buckets {
    let counted = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    counted.map(|(power, count)| (bucket_end_ns(power), *count)).collect()
}
