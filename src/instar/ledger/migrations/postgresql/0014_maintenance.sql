-- Whether requests of an environment are to be answered with a page, since when, and with which, as JSON; NULL: nobody ever said
-- so. An older Instar wrote an event alone, which does not tell which page.
ALTER TABLE environments ADD COLUMN maintenance text COLLATE "C";
ALTER TABLE environments DISABLE TRIGGER environments_rule;  -- it is said of removed ones, too, as it was known
UPDATE environments SET maintenance = (
  SELECT json_build_object('on', (detail ->> 'on')::boolean, 'page', NULL, 'since', at, 'is_page_known', false)::text
    FROM events
   WHERE kind = 'maintenance' AND place = service || '/' || environment AND at >= created_at
     AND (removed_at IS NULL OR at <= removed_at)
   ORDER BY seq DESC LIMIT 1);
ALTER TABLE environments ENABLE TRIGGER environments_rule;
