//! The group as a table: who asks what when, and what comes of it.

use super::*;

const SETTINGS: GroupSettings = GroupSettings { initial_delay_ms: 100, session_ms_min: 100 };
const SESSION_MS: i64 = 1_000;
const REBALANCE_MS: i64 = 5_000;

fn join_of(member_id: &str, instance_id: Option<&str>, protocols: &[&str]) -> Join {
    Join {
        member_id: member_id.into(),
        instance_id: instance_id.map(str::to_owned),
        client_id: "c".into(),
        protocol_type: "consumer".into(),
        protocols: protocols.iter().map(|p| ((*p).to_owned(), Bytes::from_static(b"m"))).collect(),
        session_ms: SESSION_MS,
        rebalance_ms: REBALANCE_MS,
        takes_member_id: false,
    }
}

fn new_member(group: &mut Group, id: &str, now_ms: i64) -> Outcome<Joined, Refused> {
    group.join(join_of("", None, &["range"]), id.into(), now_ms)
}

fn again(group: &mut Group, id: &str, now_ms: i64) -> Outcome<Joined, Refused> {
    group.join(join_of(id, None, &["range"]), "unused".into(), now_ms)
}

fn dynamic(member_id: &str) -> Caller<'_> {
    Caller { member_id, instance_id: None }
}

fn ticket<T, E>(outcome: Outcome<T, E>) -> Ticket {
    match outcome {
        Outcome::Wait { ticket, .. } => ticket,
        Outcome::Ready(_) => panic!("must wait"),
    }
}

fn ready<T, E: std::fmt::Debug>(outcome: Outcome<T, E>) -> T {
    match outcome {
        Outcome::Ready(result) => result.unwrap(),
        Outcome::Wait { .. } => panic!("must not wait"),
    }
}

fn error<T: std::fmt::Debug>(outcome: Outcome<T, Refused>) -> ResponseError {
    match outcome {
        Outcome::Ready(result) => result.unwrap_err().error,
        Outcome::Wait { .. } => panic!("must not wait"),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

/// A stable group of `a`, which leads, and `b`, in generation 1 at time 100.
fn stable() -> Group {
    let mut group = Group::new(SETTINGS);
    let (a, b) = (ticket(new_member(&mut group, "a", 0)), ticket(new_member(&mut group, "b", 0)));
    group.tick(100);
    let joined = ready(group.take_join(dynamic("a"), a));
    assert_eq!((joined.generation, joined.leader.as_str(), joined.members.len()), (1, "a", 2));
    assert_eq!(ready(group.take_join(dynamic("b"), b)).members, vec![]);
    let waits = ticket(group.sync(dynamic("b"), 1, vec![], 100));
    let assignments = vec![("a".to_owned(), bytes("for a")), ("b".to_owned(), bytes("for b"))];
    assert_eq!(ready(group.sync(dynamic("a"), 1, assignments, 100)), bytes("for a"));
    assert_eq!(ready(group.take_sync(dynamic("b"), waits)), bytes("for b"));
    assert_eq!(group.phase(), Phase::Stable);
    group
}

/// A stable group of one static member `a` of the instance `i`.
fn stable_static() -> Group {
    let mut group = Group::new(SETTINGS);
    let a = ticket(group.join(join_of("", Some("i"), &["range"]), "a".into(), 0));
    group.tick(100);
    ready(group.take_join(dynamic("a"), a));
    ready(group.sync(dynamic("a"), 1, vec![("a".to_owned(), bytes("for i"))], 100));
    group
}

#[test]
fn the_first_rebalance_waits_for_more_members_but_not_for_ever() {
    let mut group = Group::new(SETTINGS);
    new_member(&mut group, "a", 0);
    assert_eq!(group.next_deadline_ms(), Some(100));
    new_member(&mut group, "b", 60);
    assert_eq!(group.next_deadline_ms(), Some(160));
    assert!(!group.tick(159));
    assert!(group.tick(160));
    assert_eq!(group.phase(), Phase::Completing);
}

#[test]
fn a_new_member_is_told_its_id_first_if_it_understands() {
    let mut group = Group::new(SETTINGS);
    let join = Join { takes_member_id: true, ..join_of("", None, &["range"]) };
    let refused = group.join(join, "a".into(), 0);
    let expected = Refused { error: ResponseError::MemberIdRequired, member_id: "a".into() };
    assert_eq!(refused, Outcome::Ready(Err(expected)));
    ticket(again(&mut group, "a", 0));
    assert_eq!(error(again(&mut group, "stranger", 0)), ResponseError::UnknownMemberId);
}

#[test]
fn an_id_that_was_handed_out_lapses() {
    let mut group = Group::new(SETTINGS);
    let join = Join { takes_member_id: true, ..join_of("", None, &["range"]) };
    assert_eq!(error(group.join(join, "a".into(), 0)), ResponseError::MemberIdRequired);
    assert_eq!(group.next_deadline_ms(), Some(SESSION_MS));
    group.tick(SESSION_MS);
    assert_eq!(error(again(&mut group, "a", SESSION_MS)), ResponseError::UnknownMemberId);
}

#[test]
fn joins_that_do_not_fit_are_refused() {
    let mut group = stable();
    let mut other_type = join_of("", None, &["range"]);
    other_type.protocol_type = "connect".into();
    let short = Join { session_ms: 99, ..join_of("", None, &["range"]) };
    let cases = [
        (join_of("", None, &["sticky"]), ResponseError::InconsistentGroupProtocol),
        (join_of("", None, &[]), ResponseError::InconsistentGroupProtocol),
        (other_type, ResponseError::InconsistentGroupProtocol),
        (short, ResponseError::InvalidSessionTimeout),
    ];
    for (join, expected) in cases {
        assert_eq!(error(group.join(join, "c".into(), 200)), expected);
    }
    assert_eq!(group.phase(), Phase::Stable);
}

#[test]
fn a_heartbeat_says_what_to_do() {
    let mut group = stable();
    let cases = [
        ("a", 1, Ok(())),
        ("a", 0, Err(ResponseError::IllegalGeneration)),
        ("x", 1, Err(ResponseError::UnknownMemberId)),
    ];
    for (member_id, generation, expected) in cases {
        assert_eq!(group.heartbeat(dynamic(member_id), generation, 200), expected);
    }
    new_member(&mut group, "c", 200);
    assert_eq!(group.heartbeat(dynamic("a"), 1, 200), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn only_a_leader_or_a_change_makes_a_stable_group_rebalance() {
    let mut group = stable();
    assert_eq!(ready(again(&mut group, "b", 200)).generation, 1);
    assert_eq!(group.phase(), Phase::Stable);
    ticket(again(&mut group, "a", 200));
    assert_eq!(group.phase(), Phase::Preparing);
    let mut group = stable();
    ticket(group.join(join_of("b", None, &["sticky", "range"]), "unused".into(), 200));
    assert_eq!(group.phase(), Phase::Preparing);
}

#[test]
fn a_silent_member_is_dropped_and_the_others_go_on() {
    let mut group = stable();
    group.heartbeat(dynamic("a"), 1, 900).unwrap();
    assert_eq!(group.next_deadline_ms(), Some(1_100));
    assert!(group.tick(1_100));
    assert_eq!((group.phase(), group.members().count()), (Phase::Preparing, 1));
    let joined = ready(again(&mut group, "a", 1_150));
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
}

#[test]
fn whoever_does_not_join_again_in_time_is_left_behind() {
    let mut group = stable();
    let c = ticket(new_member(&mut group, "c", 200));
    let a = ticket(again(&mut group, "a", 200));
    for now_ms in (200..5_200).step_by(500) {
        assert_eq!(
            group.heartbeat(dynamic("b"), 1, now_ms),
            Err(ResponseError::RebalanceInProgress)
        );
        group.tick(now_ms);
    }
    assert_eq!(group.phase(), Phase::Preparing);
    group.tick(5_200);
    assert_eq!(ready(group.take_join(dynamic("a"), a)).members.len(), 2);
    assert_eq!(ready(group.take_join(dynamic("c"), c)).generation, 2);
    assert_eq!(group.heartbeat(dynamic("b"), 2, 5_200), Err(ResponseError::UnknownMemberId));
}

#[test]
fn whoever_never_syncs_is_dropped() {
    let mut group = stable();
    ticket(new_member(&mut group, "c", 200));
    again(&mut group, "a", 200);
    again(&mut group, "b", 200);
    assert_eq!(group.phase(), Phase::Completing);
    ready(group.sync(dynamic("a"), 2, vec![], 200));
    for now_ms in (200..5_200).step_by(500) {
        for member_id in ["a", "b", "c"] {
            assert_eq!(group.heartbeat(dynamic(member_id), 2, now_ms), Ok(()));
        }
        group.tick(now_ms);
    }
    group.tick(5_200);
    assert_eq!(group.members().map(|m| m.member_id.to_owned()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_rebalance_answers_those_who_wait_for_an_assignment() {
    let mut group = stable();
    again(&mut group, "a", 200);
    again(&mut group, "b", 200);
    let waits = ticket(group.sync(dynamic("b"), 2, vec![], 200));
    new_member(&mut group, "c", 210);
    assert_eq!(
        group.take_sync(dynamic("b"), waits),
        Outcome::Ready(Err(ResponseError::RebalanceInProgress))
    );
    let cases = [(2, ResponseError::RebalanceInProgress), (1, ResponseError::IllegalGeneration)];
    for (generation, expected) in cases {
        let outcome = group.sync(dynamic("b"), generation, vec![], 210);
        assert_eq!(outcome, Outcome::Ready(Err(expected)));
    }
}

#[test]
fn an_answer_is_kept_over_a_rebalance_that_begins_before_it_is_taken() {
    let mut group = stable();
    let a = ticket(again(&mut group, "a", 200));
    again(&mut group, "b", 200);
    new_member(&mut group, "c", 200);
    assert_eq!(ready(group.take_join(dynamic("a"), a)).generation, 2);
}

#[test]
fn a_request_that_was_sent_again_leaves_the_first_one_without_the_answer() {
    let mut group = stable();
    let first = ticket(again(&mut group, "a", 200));
    let second = ticket(again(&mut group, "a", 210));
    assert_eq!(error(group.take_join(dynamic("a"), first)), ResponseError::RebalanceInProgress);
    assert_eq!(ticket(group.take_join(dynamic("a"), second)), second);
}

#[test]
fn the_last_one_to_leave_empties_the_group() {
    let mut group = stable();
    assert_eq!(group.leave(dynamic("x"), 200), Err(ResponseError::UnknownMemberId));
    group.leave(dynamic("a"), 200).unwrap();
    assert_eq!(group.phase(), Phase::Preparing);
    group.leave(dynamic("b"), 200).unwrap();
    assert_eq!((group.phase(), group.next_deadline_ms()), (Phase::Empty, None));
}

#[test]
fn a_static_member_that_restarts_takes_over_without_a_rebalance_and_fences_the_old_one() {
    let mut group = stable_static();
    let joined = ready(group.join(join_of("", Some("i"), &["range"]), "b".into(), 300));
    // Told of another leader, it will not assign.
    assert_eq!(
        (joined.generation, joined.leader.as_str(), joined.member_id.as_str()),
        (1, "a", "b")
    );
    let old = Caller { member_id: "a", instance_id: Some("i") };
    let new = Caller { member_id: "b", instance_id: Some("i") };
    assert_eq!(ready(group.sync(new, 1, vec![], 300)), bytes("for i"));
    assert_eq!(group.heartbeat(old, 1, 300), Err(ResponseError::FencedInstanceId));
    assert_eq!(group.check_commit(old, 1, true, 300), Err(ResponseError::FencedInstanceId));
    assert_eq!(group.heartbeat(new, 1, 300), Ok(()));
    let unknown = Caller { member_id: "b", instance_id: Some("j") };
    assert_eq!(group.heartbeat(unknown, 1, 300), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_member_that_waits_is_fenced_by_its_successor() {
    let mut group = stable();
    let waits = ticket(group.join(join_of("", Some("i"), &["range"]), "c".into(), 200));
    ticket(group.join(join_of("", Some("i"), &["range"]), "d".into(), 210));
    let c = Caller { member_id: "c", instance_id: Some("i") };
    assert_eq!(error(group.take_join(c, waits)), ResponseError::FencedInstanceId);
}

#[test]
fn a_static_member_may_miss_a_rebalance_until_it_expires() {
    let mut group = stable_static();
    let b = Join { session_ms: 60_000, ..join_of("", None, &["range"]) };
    let b = ticket(group.join(b, "b".into(), 300));
    let a = Caller { member_id: "a", instance_id: Some("i") };
    for now_ms in (300..=5_300).step_by(500) {
        assert_eq!(group.heartbeat(a, 1, now_ms), Err(ResponseError::RebalanceInProgress));
        group.tick(now_ms);
    }
    let joined = ready(group.take_join(dynamic("b"), b));
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("b", 2));
    group.tick(6_300);
    assert_eq!(group.members().count(), 1);
}

#[test]
fn a_static_member_can_be_removed_by_its_instance() {
    let mut group = stable_static();
    let by_instance = Caller { member_id: "", instance_id: Some("i") };
    group.leave(by_instance, 300).unwrap();
    assert_eq!(group.phase(), Phase::Empty);
    assert_eq!(group.leave(by_instance, 300), Err(ResponseError::UnknownMemberId));
}

#[test]
fn commits_are_checked_against_membership_and_generation() {
    let unknown = Err(ResponseError::UnknownMemberId);
    let illegal = Err(ResponseError::IllegalGeneration);
    let rebalancing = Err(ResponseError::RebalanceInProgress);
    // phase, member, generation, of a transaction, expected
    let cases = [
        (Phase::Empty, "", -1, false, Ok(())),
        (Phase::Empty, "a", 1, false, unknown),
        (Phase::Stable, "a", 1, false, Ok(())),
        (Phase::Stable, "a", 0, false, illegal),
        (Phase::Stable, "x", 1, false, unknown),
        (Phase::Stable, "", -1, false, unknown),
        (Phase::Stable, "", -1, true, Ok(())),
        (Phase::Stable, "a", 0, true, illegal),
        (Phase::Preparing, "a", 1, false, Ok(())),
        (Phase::Completing, "a", 2, false, rebalancing),
        (Phase::Completing, "a", 2, true, Ok(())),
        (Phase::Completing, "a", 1, true, illegal),
    ];
    for (phase, member_id, generation, transactional, expected) in cases {
        let mut group = if phase == Phase::Empty { Group::new(SETTINGS) } else { stable() };
        if matches!(phase, Phase::Preparing | Phase::Completing) {
            again(&mut group, "a", 200);
        }
        if phase == Phase::Completing {
            again(&mut group, "b", 200);
        }
        assert_eq!(group.phase(), phase);
        let checked = group.check_commit(dynamic(member_id), generation, transactional, 200);
        assert_eq!(checked, expected, "{phase:?} {member_id:?} {generation} {transactional}");
    }
}

#[test]
fn the_protocol_is_chosen_by_votes_among_those_all_support() {
    let mut group = Group::new(SETTINGS);
    let lists: [&[&str]; 3] =
        [&["sticky", "range", "own"], &["range", "sticky"], &["range", "sticky"]];
    let mut tickets = Vec::new();
    for (id, protocols) in ["a", "b", "c"].into_iter().zip(lists) {
        tickets.push(ticket(group.join(join_of("", None, protocols), id.into(), 0)));
    }
    group.tick(100);
    assert_eq!(ready(group.take_join(dynamic("a"), tickets[0])).protocol, "range");
}
