package webhook

// InFlightBytes returns the bytes that count against Settings.MaxInFlightBytes now.
func (h *Handler) InFlightBytes() int64 {
	return h.limiter.InUse()
}
