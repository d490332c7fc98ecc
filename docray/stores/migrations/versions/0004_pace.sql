-- How much of its time a bulk run may work: less than 1 while searches would wait for it. The driver sets it, its operators read it.
SET LOCAL ROLE docray_owner;

ALTER TABLE docray.bulk_runs ADD COLUMN pace real NOT NULL DEFAULT 1 CHECK (pace BETWEEN 0 AND 1);

RESET ROLE;
