//! The contract of `Env`, held against both worlds: what holds in the simulated one must hold in the real one, or a run
//! of the bed says nothing about production. Each test is written once, against a `Place`, and runs on both.
//!
//! What the kernel can be made to show is shown: processes that are killed, and, for who may make namespaces and mounts
//! (root), networks that lose everything and disks without room. Who may not is told what was not shown, and why.

#![expect(clippy::disallowed_methods, reason = "the tests themselves run in the real world")]

mod deaths;
mod files;
#[path = "../mount/mod.rs"]
mod mount;
mod namespaces;
mod place;
mod small_disk;
mod streams;
mod tasks;
mod wire;

/// Declares tests: those of each list in both worlds, by what makes the place in each.
macro_rules! conformance {
    ($($simulated:path, $real:path: { $($module:ident::$test:ident,)* })*) => {
        mod simulated {
            $($(#[test] fn $test() { $simulated(async |place| crate::$module::$test(&place).await) })*)*
        }
        mod real {
            $($(#[test] fn $test() { $real(async |place| crate::$module::$test(&place).await) })*)*
        }
    };
}

conformance! {
crate::place::in_simulation, crate::place::for_real: {
    streams::connecting_where_nobody_listens_is_refused,
    streams::bytes_come_back_in_order,
    streams::a_port_takes_connections_for_as_long_as_it_is_listened_on,
    streams::an_orderly_close_reads_as_the_end_behind_all_data,
    streams::half_closing_leaves_the_other_direction_open,
    streams::a_reset_reads_as_an_error,
    streams::dropping_a_stream_ends_it_for_the_peer,
    streams::writes_wait_for_a_peer_that_does_not_read,
    streams::dropping_a_connect_harms_nothing,
    streams::a_cancelled_read_takes_nothing,
    streams::a_cancelled_write_has_taken_nothing_or_says_how_much,
    streams::a_killed_peer_that_had_read_everything_reads_as_the_end,
    streams::a_killed_peer_that_had_not_read_everything_is_a_reset_behind_what_it_said,
    streams::a_write_to_a_peer_that_has_gone_is_lost_and_the_next_ones_fail,
    streams::a_full_backlog_drops_the_next_syn_until_the_peer_accepts,
    files::a_file_is_what_was_written_to_it,
    files::reading_past_the_end_fails_and_names_the_file,
    files::names_are_listed_renamed_and_removed,
    files::what_does_not_exist_is_not_found,
    files::a_lock_keeps_others_out_until_it_is_dropped,
    files::a_lock_goes_with_its_file_and_not_with_the_name,
    files::what_has_a_name_is_told_and_what_is_open_is_known,
    files::a_file_is_created_only_where_nothing_has_its_name,
    tasks::blocking_work_runs_to_its_end_though_nobody_waits,
    tasks::blocking_work_gives_its_result,
    tasks::a_sleep_lasts_at_least_as_long_as_asked,
    tasks::an_aborted_task_does_no_more,
    tasks::a_task_goes_on_without_its_handle,
    tasks::random_bits_differ_from_draw_to_draw,
}
crate::place::in_simulation, crate::namespaces::on_a_wire: {
    wire::a_connect_into_a_cut_hangs_until_the_syn_that_gets_through,
    wire::a_writer_into_a_cut_stops_when_its_buffer_is_full_and_nothing_is_lost,
    wire::a_dead_peer_is_noticed_by_the_user_timeout_and_by_keepalives,
}
crate::place::in_simulation, crate::small_disk::on_a_small_disk: {
    small_disk::a_full_disk_says_so_and_keeps_what_it_has,
    small_disk::a_read_only_disk_refuses_every_change_and_can_be_read,
}
}
