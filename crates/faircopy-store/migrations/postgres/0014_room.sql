-- An update of a row finds room on the row's own page: then no index is written. With a million users each index that is written is
-- another page, read from elsewhere and logged whole. Pages that are there already keep what they have.
ALTER TABLE faircopy.users SET (fillfactor = 85);
ALTER TABLE faircopy.organizations SET (fillfactor = 85);
ALTER TABLE faircopy.organization_members SET (fillfactor = 85);
