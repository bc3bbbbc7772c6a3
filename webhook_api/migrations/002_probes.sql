-- How often readiness was tried: a write of real bytes, which a full or failing disk refuses.
ALTER TABLE totals ADD COLUMN probes INTEGER NOT NULL DEFAULT 0;
