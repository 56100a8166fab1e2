-- Whether requests of an environment are to be answered with a page, since when, and with which, as JSON; NULL: nobody ever said
-- so. An older Instar wrote an event alone, which does not tell which page.
ALTER TABLE environments ADD COLUMN maintenance TEXT;
DROP TRIGGER environments_ended;  -- it is said of removed ones, too, as it was known
UPDATE environments SET maintenance = (
  SELECT json_object('on', json(iif(json_extract(detail, '$.on'), 'true', 'false')), 'page', NULL, 'since', at,
                     'is_page_known', json('false'))
    FROM events
   WHERE kind = 'maintenance' AND place = service || '/' || environment AND at >= created_at
     AND (removed_at IS NULL OR at <= removed_at)
   ORDER BY seq DESC LIMIT 1);
CREATE TRIGGER environments_ended BEFORE UPDATE ON environments WHEN OLD.removed_at IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a removed environment is never changed'); END;
