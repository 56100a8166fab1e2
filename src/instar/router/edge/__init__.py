"""The machine's edge: the HAProxy that has :80 and :443, and passes requests by name to the environments' routers."""
