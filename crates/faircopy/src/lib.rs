//! Faircopy keeps an exact, durable copy of Clerk users, organizations, memberships and invitations in your database.
