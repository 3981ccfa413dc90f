;;; midfill-lsp.el --- midfill as a server of lsp-mode's  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; Registers midfill with lsp-mode 10, beside a language's own server.  Ghost
;; text is lsp-mode's then, see `lsp-inline-completion-mode': leave
;; `midfill-mode' off.  Its delay is 2 s unless you set
;; `lsp-inline-completion-idle-delay'.

;;; Code:

(require 'lsp-mode)
(require 'midfill)

(lsp-register-client
 (make-lsp-client :new-connection (lsp-stdio-connection #'midfill--serve-command)
                  :activation-fn (lambda (&rest _) t)
                  :add-on? t
                  :multi-root t
                  :priority -2
                  :initialization-options #'midfill--settings
                  :notification-handlers
                  (lsp-ht ("midfill/didChangeStatus"
                           (lambda (_workspace status)
                             (midfill--take-status
                              (list :state (lsp-get status :state)
                                    :progress (lsp-get status :progress))))))
                  :server-id 'midfill))

(provide 'midfill-lsp)
;;; midfill-lsp.el ends here
