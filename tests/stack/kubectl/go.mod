// Each version of kubectl has a module file of its own; this one only says where the module is.
module kubectl

go 1.26.0
