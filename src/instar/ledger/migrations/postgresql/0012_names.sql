-- Which names are an environment's, as JSON: those that it has, and those that it gets from another environment as soon as it
-- can serve them; NULL: it has all that its settings say. A name is one environment's: whoever writes here has looked at all
-- others in the same transaction.
ALTER TABLE environments ADD COLUMN names text COLLATE "C";
