module instar.test/cluster/hello

go 1.26.0
