package firstprocess

// run is not reached: Windows has no first process of a container.
func run() (code int) { return 1 }
