//! What travels with a submission and comes back with its completion: `op(8) | generation(24) | slot(32)`.

#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Accept = 1,
    Recv,
    Send,
    Close,
    Cancel,
    ShutdownWrite,
    Adopt,
    /// MSG_RING as the receiver sees it.
    Bell,
    /// MSG_RING as the sender sees it, when it failed.
    RangBell,
    /// A foreign thread wrote the eventfd.
    ForeignBell,
    /// The first step of a connection that we open; these three carry the attempt instead of a slot.
    Socket,
    /// A step before the connect, when it failed.
    PrepareConnect,
    Connect,
}

impl Op {
    const ALL: [Op; 13] = [
        Op::Accept,
        Op::Recv,
        Op::Send,
        Op::Close,
        Op::Cancel,
        Op::ShutdownWrite,
        Op::Adopt,
        Op::Bell,
        Op::RangBell,
        Op::ForeignBell,
        Op::Socket,
        Op::PrepareConnect,
        Op::Connect,
    ];
}

pub(super) fn pack(op: Op, generation: u32, slot: u32) -> u64 {
    let (op, generation) = (op as u64, u64::from(generation & GENERATION_MASK));
    op << 56 | generation << 32 | u64::from(slot)
}

pub(super) fn unpack(user_data: u64) -> (Option<Op>, u32, u32) {
    let op = (user_data >> 56) as usize;
    let op = op.checked_sub(1).and_then(|index| Op::ALL.get(index)).copied();
    (op, (user_data >> 32) as u32 & GENERATION_MASK, user_data as u32)
}

pub(super) const GENERATION_MASK: u32 = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        for op in Op::ALL {
            for generation in [0, 1, GENERATION_MASK] {
                for slot in [0, 1, u32::MAX] {
                    let back = unpack(pack(op, generation, slot));
                    assert_eq!(back, (Some(op), generation, slot));
                }
            }
        }
    }

    #[test]
    fn a_generation_beyond_24_bits_wraps_and_leaves_the_op_alone() {
        assert_eq!(unpack(pack(Op::Recv, GENERATION_MASK + 3, 9)), (Some(Op::Recv), 2, 9));
    }

    #[test]
    fn an_unknown_op_is_none() {
        assert_eq!(unpack(0).0, None);
        assert_eq!(unpack(u64::MAX).0, None);
    }
}
