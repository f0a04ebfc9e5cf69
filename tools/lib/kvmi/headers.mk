# SPDX-License-Identifier: GPL-2.0
#
# Where linux/kvmi.h and asm/kvmi.h come from.
#
#	KHDR=DIR	the headers that "make headers_install" of the patched
#			kernel put into DIR/include
#
# Without it the two files are taken from the tree this is part of, and the rest
# from the system.  Sets KVMI_HDR_FLAGS and KVMI_HDR_FILES; wants OUTPUT and
# KVMI_TREE, the top of the tree.

ifneq ($(KHDR),)
KVMI_HDR_FLAGS := -isystem $(KHDR)/include
KVMI_HDR_FILES := $(KHDR)/include/linux/kvmi.h $(KHDR)/include/asm/kvmi.h
else
KVMI_HDR_FLAGS := -isystem $(OUTPUT)uapi
KVMI_HDR_FILES := $(OUTPUT)uapi/linux/kvmi.h $(OUTPUT)uapi/asm/kvmi.h

$(OUTPUT)uapi/linux/kvmi.h: $(KVMI_TREE)/include/uapi/linux/kvmi.h
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@

$(OUTPUT)uapi/asm/kvmi.h: $(KVMI_TREE)/arch/x86/include/uapi/asm/kvmi.h
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@
endif
