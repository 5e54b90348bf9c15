//! The table of mutants. Read by `build.rs`, which makes them, and by the tests, which count them.

/// One way of breaking a shipping file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// The file in `src/lockfree`, without `.rs`.
    pub(crate) structure: &'static str,
    /// What is wrong with it.
    pub(crate) name: &'static str,
    /// The text that is replaced; the file holds it exactly once.
    pub(crate) find: &'static str,
    /// The text in its place.
    pub(crate) replace: &'static str,
    /// The model that must fail over the mutant.
    pub(crate) caught_by: &'static str,
    /// Whether it fails by not ending: a thread that waits for news never gets them.
    pub(crate) endless: bool,
}

const fn mutant(
    structure: &'static str,
    name: &'static str,
    find: &'static str,
    replace: &'static str,
    caught_by: &'static str,
) -> Mutant {
    Mutant { structure, name, find, replace, caught_by, endless: false }
}

const fn endless(mutant: Mutant) -> Mutant {
    Mutant { endless: true, ..mutant }
}

/// Every mutant.
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "remote_free",
        "push_without_release",
        "compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed)",
        "compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed)",
        "blocks_freed_by_two_threads_reach_the_owner_once",
    ),
    mutant(
        "remote_free",
        "push_without_acquire",
        "compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed)",
        "compare_exchange_weak(word, new, Ordering::Release, Ordering::Relaxed)",
        "a_pooled_slab_whose_blocks_have_all_come_back_is_noticed",
    ),
    mutant(
        "remote_free",
        "push_drops_the_list",
        "link(chain_of(word).map(|list| list.head));",
        "link(None);",
        "blocks_freed_by_two_threads_reach_the_owner_once",
    ),
    mutant(
        "remote_free",
        "take_without_acquire",
        "chain_of(self.word.swap(OWNED, Ordering::Acquire))",
        "chain_of(self.word.swap(OWNED, Ordering::Relaxed))",
        "blocks_freed_by_two_threads_reach_the_owner_once",
    ),
    mutant(
        "remote_free",
        "take_reads_before_it_empties",
        "chain_of(self.word.swap(OWNED, Ordering::Acquire))",
        "{ let word = self.word.load(Ordering::Acquire); self.word.store(OWNED, Ordering::Relaxed); chain_of(word) }",
        "blocks_freed_by_two_threads_reach_the_owner_once",
    ),
    mutant(
        "remote_free",
        "adoption_without_acquire",
        "compare_exchange_weak(word, OWNED, Ordering::Acquire, Ordering::Relaxed)",
        "compare_exchange_weak(word, OWNED, Ordering::Relaxed, Ordering::Relaxed)",
        "a_full_slab_is_adopted_by_exactly_one_thread",
    ),
    mutant(
        "remote_free",
        "adoption_leaves_the_slab_full",
        "compare_exchange_weak(word, OWNED, Ordering::Acquire, Ordering::Relaxed)",
        "compare_exchange_weak(word, FULL, Ordering::Acquire, Ordering::Relaxed)",
        "a_full_slab_is_adopted_by_exactly_one_thread",
    ),
    mutant(
        "remote_free",
        "detach_without_release",
        "self.word.compare_exchange(OWNED, FULL, Ordering::Release, Ordering::Relaxed).is_ok()",
        "self.word.compare_exchange(OWNED, FULL, Ordering::Relaxed, Ordering::Relaxed).is_ok()",
        "a_full_slab_is_adopted_by_exactly_one_thread",
    ),
    mutant(
        "remote_free",
        "detach_ignores_the_list",
        "self.word.compare_exchange(OWNED, FULL, Ordering::Release, Ordering::Relaxed).is_ok()",
        "self.word.fetch_or(FULL, Ordering::Release) & STATE_MASK == OWNED",
        "a_full_slab_is_adopted_by_exactly_one_thread",
    ),
    mutant(
        "remote_free",
        "pool_without_release",
        "self.word.fetch_or(POOLED, Ordering::Release);",
        "self.word.fetch_or(POOLED, Ordering::Relaxed);",
        "a_pooled_slab_goes_to_its_next_owner_as_the_last_one_left_it",
    ),
    mutant(
        "remote_free",
        "pool_drops_the_list",
        "self.word.fetch_or(POOLED, Ordering::Release);",
        "self.word.store(POOLED, Ordering::Release);",
        "a_pooled_slab_goes_to_its_next_owner_as_the_last_one_left_it",
    ),
    mutant(
        "remote_free",
        "adopt_without_acquire",
        "self.word.fetch_and(!STATE_MASK, Ordering::Acquire);",
        "self.word.fetch_and(!STATE_MASK, Ordering::Relaxed);",
        "a_pooled_slab_goes_to_its_next_owner_as_the_last_one_left_it",
    ),
    mutant(
        "remote_free",
        "adopt_drops_the_list",
        "self.word.fetch_and(!STATE_MASK, Ordering::Acquire);",
        "self.word.swap(OWNED, Ordering::Acquire);",
        "a_pooled_slab_goes_to_its_next_owner_as_the_last_one_left_it",
    ),
    mutant(
        "remote_free",
        "push_counts_what_was_there_before",
        "Ok(_) if state == POOLED => return Push::Pooled((count >> COUNT_SHIFT) as u32),",
        "Ok(_) if state == POOLED => return Push::Pooled(chain_of(word).map_or(0, |list| list.count)),",
        "a_free_to_a_pooled_slab_learns_how_many_blocks_wait",
    ),
    mutant(
        "remote_free",
        "count_without_acquire",
        "chain_of(self.word.load(Ordering::Acquire)).map_or(0, |list| list.count)",
        "chain_of(self.word.load(Ordering::Relaxed)).map_or(0, |list| list.count)",
        "an_owner_that_counts_all_blocks_may_give_their_memory_away",
    ),
    mutant(
        "orphan_stack",
        "push_without_release",
        "compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed)",
        "compare_exchange_weak(head, new, Ordering::Relaxed, Ordering::Relaxed)",
        "a_record_is_seen_as_its_last_holder_left_it",
    ),
    mutant(
        "orphan_stack",
        "push_links_to_nothing",
        "link(head & RECORD_MASK);",
        "link(0);",
        "records_pushed_by_two_threads_are_all_there",
    ),
    mutant(
        "orphan_stack",
        "push_links_once",
        "        loop {
            link(head & RECORD_MASK);
",
        "        link(head & RECORD_MASK);
        loop {
",
        "records_pushed_by_two_threads_are_all_there",
    ),
    mutant(
        "orphan_stack",
        "pop_loads_without_acquire",
        "self.head.load(Ordering::Acquire)",
        "self.head.load(Ordering::Relaxed)",
        "a_record_popped_and_pushed_again_meanwhile_is_not_mistaken",
    ),
    mutant(
        "orphan_stack",
        "pop_retries_without_acquire",
        "compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire)",
        "compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Relaxed)",
        "a_record_popped_and_pushed_again_meanwhile_is_not_mistaken",
    ),
    mutant(
        "orphan_stack",
        "pop_without_tag",
        "wrapping_add(1)",
        "wrapping_add(0)",
        "a_record_popped_and_pushed_again_meanwhile_is_not_mistaken",
    ),
    mutant(
        "slice_bitmap",
        "claim_without_acquire",
        "self.word.compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed)?;",
        "self.word.compare_exchange_weak(word, new, Ordering::Relaxed, Ordering::Relaxed)?;",
        "the_next_owner_of_a_slice_sees_what_the_last_one_left",
    ),
    mutant(
        "slice_bitmap",
        "claim_overwrites",
        "self.word.compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed)?;",
        "self.word.swap(new, Ordering::AcqRel);",
        "two_claims_never_share_a_slice",
    ),
    mutant(
        "slice_bitmap",
        "claim_takes_what_is_left",
        "while word & run(start, count) == 0 {",
        "while word & run(start, count) != run(start, count) {",
        "a_run_is_claimed_whole_or_not_at_all",
    ),
    mutant(
        "slice_bitmap",
        "claim_leaves_slices_clean",
        "let new = word | bits | (bits << SLICES);",
        "let new = word | bits;",
        "the_next_owner_of_a_slice_sees_what_the_last_one_left",
    ),
    mutant(
        "slice_bitmap",
        "release_without_release",
        "compare_exchange_weak(word, new, Ordering::Release, Ordering::Relaxed)",
        "compare_exchange_weak(word, new, Ordering::Relaxed, Ordering::Relaxed)",
        "the_next_owner_of_a_slice_sees_what_the_last_one_left",
    ),
    mutant(
        "slice_bitmap",
        "release_cleans_slices",
        "let new = word & !bits;",
        "let new = word & !bits & !(bits << SLICES);",
        "the_next_owner_of_a_slice_sees_what_the_last_one_left",
    ),
    mutant(
        "slice_bitmap",
        "purge_without_acquire",
        "compare_exchange_weak(word, word | USED, Ordering::Acquire, Ordering::Relaxed)",
        "compare_exchange_weak(word, word | USED, Ordering::Relaxed, Ordering::Relaxed)",
        "a_chunk_that_is_purged_is_claimed_by_nobody",
    ),
    mutant(
        "slice_bitmap",
        "purge_takes_nothing",
        "compare_exchange_weak(word, word | USED, Ordering::Acquire, Ordering::Relaxed)",
        "compare_exchange_weak(word, word, Ordering::Acquire, Ordering::Relaxed)",
        "a_chunk_that_is_purged_is_claimed_by_nobody",
    ),
    mutant(
        "slice_bitmap",
        "purge_of_a_chunk_in_use",
        "while ChunkState(word).is_unused() && ChunkState(word).is_dirty() {",
        "while ChunkState(word).is_dirty() {",
        "a_chunk_that_is_purged_is_claimed_by_nobody",
    ),
    mutant(
        "slice_bitmap",
        "finish_without_release",
        "self.word.store(word, Ordering::Release);",
        "self.word.store(word, Ordering::Relaxed);",
        "a_chunk_that_is_purged_is_claimed_by_nobody",
    ),
    mutant(
        "slice_bitmap",
        "failed_purge_forgets_dirt",
        "if purged { 0 } else { self.word.load(Ordering::Relaxed) & !USED }",
        "if purged { 0 } else { 0 }",
        "a_purge_that_failed_leaves_the_chunk_dirty",
    ),
    mutant(
        "range_ring",
        "push_without_release",
        "cell.turn.store(2 * lap + 1, Ordering::Release);",
        "cell.turn.store(2 * lap + 1, Ordering::Relaxed);",
        "a_producer_goes_on_where_the_consumer_made_room",
    ),
    mutant(
        "range_ring",
        "push_publishes_before_the_value",
        "cell.value.store(value, Ordering::Relaxed);
                        // Release: pairs with the Acquire of the turn in `pop`.
                        cell.turn.store(2 * lap + 1, Ordering::Release);",
        "cell.turn.store(2 * lap + 1, Ordering::Release);
                        cell.value.store(value, Ordering::Relaxed);",
        "entries_of_two_producers_come_out_once_each",
    ),
    mutant(
        "range_ring",
        "push_claims_without_exchange",
        "match self.tail.compare_exchange_weak(at, at + 1, Ordering::Relaxed, Ordering::Relaxed) {",
        "match { self.tail.store(at + 1, Ordering::Relaxed); Ok::<u64, u64>(at) } {",
        "entries_of_two_producers_come_out_once_each",
    ),
    endless(mutant(
        "range_ring",
        "push_without_acquire",
        "// Acquire: pairs with the Release in `pop`; its reader has the old value before we overwrite it.
            let turn = cell.turn.load(Ordering::Acquire);",
        "let turn = cell.turn.load(Ordering::Relaxed);",
        "entries_of_two_producers_come_out_once_each",
    )),
    mutant(
        "range_ring",
        "pop_without_acquire",
        "// Acquire: pairs with the Release in `push`; makes the value visible.
            let turn = cell.turn.load(Ordering::Acquire);",
        "let turn = cell.turn.load(Ordering::Relaxed);",
        "entries_of_two_producers_come_out_once_each",
    ),
    mutant(
        "range_ring",
        "pop_claims_without_exchange",
        "match self.head.compare_exchange_weak(at, at + 1, Ordering::Relaxed, Ordering::Relaxed) {",
        "match { self.head.store(at + 1, Ordering::Relaxed); Ok::<u64, u64>(at) } {",
        "two_consumers_never_get_the_same_entry",
    ),
    endless(mutant(
        "range_ring",
        "pop_without_release",
        "cell.turn.store(2 * lap + 2, Ordering::Release);",
        "cell.turn.store(2 * lap + 2, Ordering::Relaxed);",
        "two_consumers_never_get_the_same_entry",
    )),
    mutant(
        "range_ring",
        "pop_frees_before_it_reads",
        "let value = cell.value.load(Ordering::Relaxed);
                        // Release: pairs with the Acquire in `push` one lap later.
                        cell.turn.store(2 * lap + 2, Ordering::Release);",
        "cell.turn.store(2 * lap + 2, Ordering::Release);
                        let value = cell.value.load(Ordering::Relaxed);",
        "a_producer_goes_on_where_the_consumer_made_room",
    ),
    mutant(
        "range_ring",
        "pop_keeps_the_place",
        "cell.turn.store(2 * lap + 2, Ordering::Release);",
        "",
        "a_producer_goes_on_where_the_consumer_made_room",
    ),
    mutant(
        "once",
        "look_without_acquire",
        "self.state.load(Ordering::Acquire) == DONE",
        "self.state.load(Ordering::Relaxed) == DONE",
        "the_closure_runs_once_and_all_see_what_it_wrote",
    ),
    mutant(
        "once",
        "look_takes_running_for_done",
        "self.state.load(Ordering::Acquire) == DONE",
        "self.state.load(Ordering::Acquire) != NEW",
        "the_closure_runs_once_and_all_see_what_it_wrote",
    ),
    mutant(
        "once",
        "start_without_acquire",
        "compare_exchange(NEW, RUNNING, Ordering::Acquire, Ordering::Acquire)",
        "compare_exchange(NEW, RUNNING, Ordering::Relaxed, Ordering::Acquire)",
        "after_a_failure_the_next_caller_tries_again",
    ),
    mutant(
        "once",
        "wait_without_acquire",
        "compare_exchange(NEW, RUNNING, Ordering::Acquire, Ordering::Acquire)",
        "compare_exchange(NEW, RUNNING, Ordering::Acquire, Ordering::Relaxed)",
        "the_closure_runs_once_and_all_see_what_it_wrote",
    ),
    mutant(
        "once",
        "start_leaves_the_door_open",
        "compare_exchange(NEW, RUNNING, Ordering::Acquire, Ordering::Acquire)",
        "compare_exchange(NEW, NEW, Ordering::Acquire, Ordering::Acquire)",
        "the_closure_runs_once_and_all_see_what_it_wrote",
    ),
    mutant(
        "once",
        "end_without_release",
        "Ordering::Release);",
        "Ordering::Relaxed);",
        "the_closure_runs_once_and_all_see_what_it_wrote",
    ),
    mutant(
        "once",
        "failure_counts_as_done",
        "if done { DONE } else { NEW }",
        "DONE",
        "after_a_failure_the_next_caller_tries_again",
    ),
    mutant(
        "hint_set",
        "insert_without_release",
        "word.fetch_or(1 << (n % BITS), Ordering::AcqRel);",
        "word.fetch_or(1 << (n % BITS), Ordering::Acquire);",
        "who_finds_a_number_sees_what_was_written_before_it_was_put_in",
    ),
    mutant(
        "hint_set",
        "insert_without_acquire",
        "word.fetch_or(1 << (n % BITS), Ordering::AcqRel);",
        "word.fetch_or(1 << (n % BITS), Ordering::Release);",
        "a_chunk_that_two_threads_move_ends_in_the_right_bucket",
    ),
    mutant(
        "hint_set",
        "insert_without_exchange",
        "word.fetch_or(1 << (n % BITS), Ordering::AcqRel);",
        "word.store(word.load(Ordering::Acquire) | 1 << (n % BITS), Ordering::Release);",
        "a_number_put_in_while_its_neighbour_leaves_is_found",
    ),
    mutant(
        "hint_set",
        "remove_without_acquire",
        "word.fetch_and(!bit, Ordering::AcqRel) & !bit == 0",
        "word.fetch_and(!bit, Ordering::Release) & !bit == 0",
        "a_number_put_in_while_its_neighbour_leaves_is_found",
    ),
    mutant(
        "hint_set",
        "remove_without_release",
        "word.fetch_and(!bit, Ordering::AcqRel) & !bit == 0",
        "word.fetch_and(!bit, Ordering::Acquire) & !bit == 0",
        "a_chunk_that_two_threads_move_ends_in_the_right_bucket",
    ),
    mutant(
        "hint_set",
        "remove_looks_once_at_the_leaf",
        "if any(self.leaf, n) {",
        "if false {",
        "a_number_put_in_while_its_neighbour_leaves_is_found",
    ),
    mutant(
        "hint_set",
        "remove_looks_once_at_the_middle",
        "if any(self.middle, n / BITS) {",
        "if false {",
        "a_number_put_in_while_the_next_word_empties_is_found",
    ),
    mutant(
        "hint_set",
        "remove_repairs_the_middle_only",
        "            set(self.middle, n / BITS);
            set(self.top, n / BITS / BITS);
        } else",
        "            set(self.middle, n / BITS);
        } else",
        "a_number_put_in_while_both_words_empty_is_found",
    ),
    mutant(
        "hint_set",
        "insert_leaves_the_top",
        "        set(self.middle, n / BITS);
        set(self.top, n / BITS / BITS);
    }",
        "        set(self.middle, n / BITS);
    }",
        "a_number_put_in_while_the_next_word_empties_is_found",
    ),
    mutant(
        "hint_set",
        "search_without_acquire",
        "?.load(Ordering::Acquire)",
        "?.load(Ordering::Relaxed)",
        "who_finds_a_number_sees_what_was_written_before_it_was_put_in",
    ),
    mutant(
        "room_word",
        "claim_without_acquire",
        "self.update(Ordering::Acquire, |state| {
            state.is_available()",
        "self.update(Ordering::Relaxed, |state| {
            state.is_available()",
        "the_next_owner_of_a_room_sees_what_the_last_one_left",
    ),
    mutant(
        "room_word",
        "claim_enters_a_purge",
        "state.is_available().then(",
        "(!state.is_in_use()).then(",
        "a_free_room_is_not_handed_out_while_it_is_purged",
    ),
    mutant(
        "room_word",
        "claim_leaves_the_room_free",
        "RoomState::new(chunks, state.warm().max(chunks), IN_USE)",
        "RoomState::new(chunks, state.warm().max(chunks), 0)",
        "a_room_is_claimed_by_one_of_two",
    ),
    mutant(
        "room_word",
        "claim_leaves_chunks_cold",
        "RoomState::new(chunks, state.warm().max(chunks), IN_USE)",
        "RoomState::new(chunks, state.warm(), IN_USE)",
        "the_next_owner_of_a_room_sees_what_the_last_one_left",
    ),
    mutant(
        "room_word",
        "resize_without_acquire",
        "self.update(Ordering::AcqRel, |state| {",
        "self.update(Ordering::Release, |state| {",
        "an_owner_that_shrinks_and_grows_never_meets_a_purge",
    ),
    mutant(
        "room_word",
        "resize_without_release",
        "self.update(Ordering::AcqRel, |state| {",
        "self.update(Ordering::Acquire, |state| {",
        "an_owner_that_shrinks_and_grows_never_meets_a_purge",
    ),
    mutant(
        "room_word",
        "resize_grows_into_a_purge",
        "let fits = chunks <= state.live() || state.flags() & PURGING == 0;",
        "let fits = true;",
        "an_owner_that_shrinks_and_grows_never_meets_a_purge",
    ),
    mutant(
        "room_word",
        "resize_ends_a_purge",
        "(fits && state.is_in_use()).then(|| RoomState::new(chunks, state.warm().max(chunks), state.flags()))",
        "(fits && state.is_in_use()).then(|| RoomState::new(chunks, state.warm().max(chunks), IN_USE))",
        "an_owner_that_shrinks_and_grows_never_meets_a_purge",
    ),
    mutant(
        "room_word",
        "release_without_release",
        "self.update(Ordering::Release, |state| {
            state.is_in_use()",
        "self.update(Ordering::Relaxed, |state| {
            state.is_in_use()",
        "a_free_room_is_not_handed_out_while_it_is_purged",
    ),
    mutant(
        "room_word",
        "release_ends_a_purge",
        "RoomState::new(0, state.warm(), state.flags() & PURGING)",
        "RoomState::new(0, state.warm(), 0)",
        "a_free_room_is_not_handed_out_while_it_is_purged",
    ),
    mutant(
        "room_word",
        "cancel_ends_a_purge",
        "            Some(RoomState::new(0, warm, state.flags() & PURGING))",
        "            Some(RoomState::new(0, warm, 0))",
        "a_claim_that_is_taken_back_leaves_a_purge_running",
    ),
    mutant(
        "room_word",
        "cancel_forgets_warm_chunks",
        "let warm = if warm > state.live() { state.warm() } else { warm };",
        "let warm = 0;",
        "a_claim_that_is_taken_back_leaves_a_purge_running",
    ),
    mutant(
        "room_word",
        "purge_without_acquire",
        ".update(Ordering::Acquire, |state| {
                let idle",
        ".update(Ordering::Relaxed, |state| {
                let idle",
        "an_owner_that_shrinks_and_grows_never_meets_a_purge",
    ),
    mutant(
        "room_word",
        "purge_marks_nothing",
        "RoomState::new(state.live(), state.warm(), state.flags() | PURGING)",
        "RoomState::new(state.live(), state.warm(), state.flags())",
        "a_free_room_is_not_handed_out_while_it_is_purged",
    ),
    mutant(
        "room_word",
        "purge_from_the_start",
        "let from = before.live().max(before.warm().saturating_sub(chunks_max));",
        "let from = before.warm().saturating_sub(chunks_max);",
        "an_owner_that_shrinks_and_grows_never_meets_a_purge",
    ),
    mutant(
        "room_word",
        "finish_without_release",
        "match self.update(Ordering::Release, |state| Some(next(state)))",
        "match self.update(Ordering::Relaxed, |state| Some(next(state)))",
        "a_free_room_is_not_handed_out_while_it_is_purged",
    ),
    mutant(
        "room_word",
        "finish_takes_the_room_away",
        "RoomState::new(state.live(), warm(state), state.flags() & IN_USE)",
        "RoomState::new(state.live(), warm(state), 0)",
        "an_owner_that_shrinks_and_grows_never_meets_a_purge",
    ),
    mutant(
        "room_word",
        "failed_purge_counts_as_cold",
        "if purged { piece.from } else { state.warm() }",
        "piece.from",
        "a_purge_that_failed_leaves_its_chunks_warm",
    ),
    mutant(
        "doorbell",
        "ring_without_release",
        "match self.word.swap(AWAKE, Ordering::AcqRel) {",
        "match self.word.swap(AWAKE, Ordering::Acquire) {",
        "what_was_queued_before_the_bell_rang_is_not_slept_over",
    ),
    mutant(
        "doorbell",
        "ring_without_acquire",
        "match self.word.swap(AWAKE, Ordering::AcqRel) {",
        "match self.word.swap(AWAKE, Ordering::Release) {",
        "a_worker_that_starts_late_sees_what_rang_before_an_earlier_start_failed",
    ),
    mutant(
        "doorbell",
        "ring_looks_before_it_rings",
        "match self.word.swap(AWAKE, Ordering::AcqRel) {",
        "match { let word = self.word.load(Ordering::Acquire); self.word.store(AWAKE, Ordering::Release); word } {",
        "what_was_queued_before_the_bell_rang_is_not_slept_over",
    ),
    mutant(
        "doorbell",
        "ring_only_looks",
        "match self.word.swap(AWAKE, Ordering::AcqRel) {",
        "match self.word.load(Ordering::Acquire) {",
        "the_worker_is_started_by_one_ringer",
    ),
    mutant(
        "doorbell",
        "ring_forgets_to_wake",
        "ASLEEP => Ring::Wake,",
        "",
        "what_was_queued_before_the_bell_rang_is_not_slept_over",
    ),
    mutant(
        "doorbell",
        "reset_without_release",
        "self.word.swap(ABSENT, Ordering::Release);",
        "self.word.swap(ABSENT, Ordering::Relaxed);",
        "a_worker_that_starts_late_sees_what_rang_before_an_earlier_start_failed",
    ),
    mutant(
        "doorbell",
        "reset_by_a_store",
        "self.word.swap(ABSENT, Ordering::Release);",
        "self.word.store(ABSENT, Ordering::Release);",
        "a_worker_that_starts_late_sees_what_rang_before_an_earlier_start_failed",
    ),
    mutant(
        "doorbell",
        "sleep_without_acquire",
        "self.word.swap(ASLEEP, Ordering::AcqRel);",
        "self.word.swap(ASLEEP, Ordering::Release);",
        "what_was_queued_before_the_bell_rang_is_not_slept_over",
    ),
    mutant(
        "doorbell",
        "sleep_by_a_store",
        "self.word.swap(ASLEEP, Ordering::AcqRel);",
        "self.word.store(ASLEEP, Ordering::Release);",
        "what_was_queued_before_the_bell_rang_is_not_slept_over",
    ),
    mutant(
        "doorbell",
        "stay_awake_by_a_store",
        "self.word.swap(AWAKE, Ordering::Relaxed);",
        "self.word.store(AWAKE, Ordering::Relaxed);",
        "a_worker_that_stays_awake_misses_nobody_who_rang_meanwhile",
    ),
];
