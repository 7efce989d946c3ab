//! What is simulated is what is shipped: the same client, over real sockets and a real disk, on real processes of Redis
//! that are killed, stopped and emptied. Each test runs on two servers: the embedded one, which is the simulated Redis
//! behind a port, and a redis-server.
//!
//! `workloads` plays what the bed plays and judges it by the same checkers; `interface` meets the client as an
//! application does; `demands` and `expiry` what it can ask for and set. Nothing here replays: a failure prints its whole history.

mod addresses;
mod client;
mod demands;
mod expiry;
mod interface;
mod isolation;
mod transport;
mod workloads;

use redis_launcher::Program;

/// Declares tests: those of the first list on both servers, those of the second on a redis-server alone.
macro_rules! on_servers {
    (both: $($module:ident::$test:ident,)* ; real: $($real_module:ident::$real_test:ident,)*) => {
        mod embedded {
            $(#[test] fn $test() { super::on(Some(super::simulated()), super::$module::$test) })*
        }
        mod real {
            $(#[test] fn $test() { super::on(super::Program::redis_server(), super::$module::$test) })*
            $(#[test] fn $real_test() { super::on(super::Program::redis_server(), super::$real_module::$real_test) })*
        }
    };
}

on_servers! {
    both:
    workloads::what_is_written_comes_back_equal,
    workloads::instances_go_on_and_lose_nothing,
    workloads::instances_of_one_prefix_agree,
    workloads::prefixes_do_not_see_each_other,
    workloads::nothing_is_lost_when_redis_is_killed_and_comes_back_empty,
    workloads::every_call_is_in_time_while_redis_is_stopped,
    workloads::nothing_is_lost_when_redis_forgets_its_scripts,
    workloads::nothing_is_lost_when_an_operator_empties_redis,
    workloads::instances_that_open_before_redis_is_there_catch_up,
    interface::a_record_comes_back_exactly_on_another_instance,
    interface::a_cache_opens_without_redis_and_merges_once_it_is_there,
    interface::a_key_of_another_type_is_a_typed_error_and_left_alone,
    interface::a_damaged_store_is_set_aside_and_its_pending_writes_are_merged,
    interface::what_was_pending_at_the_end_of_a_process_is_merged_by_the_next,
    addresses::a_first_address_that_loses_every_syn_is_passed_over_within_the_attempt,
    addresses::a_first_address_that_accepts_and_says_nothing_costs_one_attempt,
    demands::a_call_can_demand_redis_or_an_error,
    demands::a_call_can_bound_the_age_of_a_local_answer,
    demands::many_records_are_read_at_once_each_by_itself,
    demands::an_operator_who_flushed_on_purpose_is_taken_at_their_word_if_so_set,
    demands::a_copy_is_on_disk_before_the_answer_if_so_set,
    expiry::a_record_expires_whole_and_its_cells_do_not_come_back,
    expiry::a_write_to_an_expired_record_begins_a_new_one,
    expiry::each_upsert_begins_the_time_to_live_anew,
    expiry::a_late_write_does_not_bring_an_expired_record_back,
    expiry::a_record_written_while_redis_is_away_expires_as_well,
    isolation::a_list_over_many_pages_names_each_record_once_and_no_tombstone,
    ;
    real:
    isolation::the_keys_of_other_prefixes_keep_their_bytes,
    transport::tls_with_an_authority_of_its_own,
    transport::tls_with_a_certificate_of_the_client,
    transport::a_unix_socket,
    transport::a_user_with_the_rights_that_operations_lists_and_no_others,
    workloads::nothing_is_lost_when_redis_is_killed_and_comes_back_with_its_data,
    interface::a_wrong_password_leaves_the_cache_local_until_the_right_one,
}

/// The simulated Redis, served by `seedbed redis-server`.
fn simulated() -> Program {
    Program::other(env!("CARGO_BIN_EXE_seedbed"), &["redis-server"], "redis://")
}

/// Runs `test` on a runtime of tokio's; not at all if there is no such server.
fn on(redis: Option<Program>, test: impl AsyncFnOnce(&Program)) {
    let Some(redis) = redis else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("room for a runtime").block_on(test(&redis));
}
