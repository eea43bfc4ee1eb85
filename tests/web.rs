//! The web adapters over real sockets: one suite, which a service in axum and one in actix pass.
//!
//! The tests are generic over the framework and know of it only how to start it. What a handler
//! does stands in `web/service.rs`; `web/in_axum.rs` and `web/in_actix.rs` route to it.

#![allow(unreachable_pub, reason = "the modules of a test are for the test")]

mod support;

#[path = "web/answers.rs"]
mod answers;
#[path = "web/bodies.rs"]
mod bodies;
#[path = "web/client.rs"]
mod client;
#[path = "web/commit.rs"]
mod commit;
#[path = "web/ends.rs"]
mod ends;
#[path = "web/in_actix.rs"]
mod in_actix;
#[path = "web/in_axum.rs"]
mod in_axum;
#[path = "web/isolation.rs"]
mod isolation;
#[path = "web/permissions.rs"]
mod permissions;
#[path = "web/service.rs"]
mod service;
#[path = "web/stage.rs"]
mod stage;

/// Each test with each framework.
macro_rules! suite {
    ($($module:ident :: { $($test:ident),* $(,)? })*) => {
        mod axum {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$module::$test::<super::in_axum::Axum>().await;
                }
            )*)*
        }

        mod actix {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$module::$test::<super::in_actix::Actix>().await;
                }
            )*)*
        }
    };
}

suite! {
    isolation::{
        tenants_share_one_connection_and_nothing_else,
        request_that_does_not_ask_takes_no_connection,
    }
    answers::{
        resolver_refuses,
        tenant_is_refused,
        errors_of_handlers,
        connections_that_are_not_to_be_had,
        connection_that_the_request_itself_has,
        registry_that_is_closed,
        extraction_without_the_layer,
    }
    commit::{
        success_is_committed_and_an_error_status_rolled_back,
        commit_that_fails_replaces_the_answer,
        outcome_that_is_unknown_is_told_as_such,
        explicit_end_is_told_to_the_handler,
        one_transaction_for_all_who_ask_in_turn,
        held_twice_is_refused,
        another_context_is_refused,
        lazy_transaction_takes_no_connection_before_it_is_begun,
        options_begin_the_transaction,
        commit_after_the_answer_is_refused,
        commit_after_the_client_has_gone_is_refused,
    }
    ends::{
        panic_rolls_back,
        client_that_hangs_up,
        client_that_hangs_up_while_it_sends,
        client_that_hangs_up_while_it_waits_for_a_connection,
        request_is_over_before_its_handler_is_dropped,
        time_out_around_and_inside,
        time_out_inside_an_explicit_commit,
        client_that_hangs_up_while_the_server_commits,
        transaction_is_begun_again_after_a_beginning_that_was_dropped,
        request_dropped_at_each_poll,
    }
    permissions::{
        only_who_may_gets_through,
        unknown_is_not_granted,
        requirement_without_an_authorizer_lets_nobody_through,
    }
    bodies::{
        head_and_options,
        body_is_streamed_after_the_commit,
        transaction_in_a_body_is_no_success,
        body_of_a_request_is_read_in_the_transaction,
    }
}
