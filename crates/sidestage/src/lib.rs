//! sidestage
